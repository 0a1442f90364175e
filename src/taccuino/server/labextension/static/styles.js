/* In JupyterLab's own colours, so that every theme of its fits. */

export const styles = `
.taccuino-splash {
  display: flex;
  align-items: center;
  justify-content: center;
  font: 16px system-ui, sans-serif;
  color: #616161;
}
.taccuino-splash.dark { color: #bdbdbd; }
.taccuino-line {
  display: flex;
  gap: 6px;
  align-items: flex-start;
  padding: 6px 8px;
  line-height: 1.35;
  border-left: 4px solid var(--jp-info-color1);
  border-bottom: 1px solid var(--jp-border-color2);
  background: var(--jp-layout-color2);
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size1);
}
.taccuino-line.taccuino-error { border-left-color: var(--jp-error-color1); }
.taccuino-line.taccuino-warning { border-left-color: var(--jp-warn-color1); }
.taccuino-line span { flex: 1; overflow-wrap: anywhere; }
.taccuino-line button {
  border: 0;
  background: none;
  color: inherit;
  cursor: pointer;
  font-size: 16px;
  line-height: 1;
  padding: 2px 4px;
}
.taccuino-status {
  display: inline-flex;
  align-items: center;
  gap: 5px;
  height: 100%;
  min-height: 22px;
  border: 0;
  padding: 0 6px;
  background: none;
  color: inherit;
  font: inherit;
  font-size: var(--jp-ui-font-size1);
  white-space: nowrap;
  cursor: pointer;
}
.taccuino-status:hover { background: var(--jp-layout-color2); }
.taccuino-status:focus-visible { outline: 2px solid var(--jp-brand-color1); outline-offset: -2px; }
.taccuino-status svg { width: 15px; height: 15px; fill: var(--jp-ui-font-color2); flex: none; }
.taccuino-status[data-level='busy'] svg { fill: var(--jp-brand-color1); }
.taccuino-status[data-level='error'] svg { fill: var(--jp-error-color1); }
.taccuino-status[data-level='error'] > span[role='status'] { font-weight: 600; }
.taccuino-meter {
  display: inline-block;
  width: 48px;
  height: 8px;
  box-sizing: border-box;
  border: 1px solid var(--jp-border-color1);
  border-radius: 4px;
  background: var(--jp-layout-color0);
  overflow: hidden;
}
.taccuino-meter[hidden] { display: none; }
.taccuino-meter > span { display: block; height: 100%; background: var(--jp-brand-color1); }
.taccuino-meter[data-level='warning'] > span { background: var(--jp-warn-color1); }
.taccuino-meter[data-level='error'] > span { background: var(--jp-error-color1); }
.taccuino-panel {
  position: fixed;
  margin: 0;
  inset: auto;
  width: min(360px, calc(100vw - 16px));
  max-height: 60vh;
  overflow: auto;
  box-sizing: border-box;
  padding: 12px 16px;
  border: 1px solid var(--jp-border-color1);
  border-radius: 6px;
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-size: var(--jp-ui-font-size1);
  line-height: 1.4;
  box-shadow: var(--jp-elevation-z8);
}
.taccuino-panel h2, .taccuino-panel h3 { font-size: inherit; font-weight: 600; margin: 0 0 6px; }
.taccuino-panel h3 { margin-top: 10px; }
.taccuino-panel p { margin: 0 0 8px; overflow-wrap: anywhere; }
.taccuino-panel p:last-child { margin: 10px 0 0; }
.taccuino-panel ul { margin: 0; padding-left: 18px; overflow-wrap: anywhere; }
.taccuino-panel p.taccuino-error { border-left: 3px solid var(--jp-error-color1); padding-left: 8px; }
.taccuino-panel p.taccuino-warning { border-left: 3px solid var(--jp-warn-color1); padding-left: 8px; }
.taccuino-panel .taccuino-meter { display: block; width: 100%; margin-bottom: 8px; }
.taccuino-panel a, .taccuino-link { color: var(--jp-content-link-color); text-decoration: underline; }
.taccuino-link { border: 0; padding: 0; background: none; font: inherit; cursor: pointer; text-align: left; }
.taccuino-share { min-width: min(440px, 80vw); max-width: 560px; }
.taccuino-share p { margin: 0 0 8px; overflow-wrap: anywhere; }
.taccuino-share progress { width: 100%; }
.taccuino-row { display: flex; gap: 8px; align-items: center; }
.taccuino-row input { flex: 1; min-width: 0; }
`;
