/* The front end of Taccuino in JupyterLab and Notebook 7.
 *
 * Hand-written as a module-federation container (`init`, `get`), which is what JupyterLab loads;
 * there is no build step. Everything of JupyterLab's comes from the scope that it shares, so the
 * files work with every 4.x. What is shown is in the modules beside this one.
 */
(() => {
  'use strict';

  const here = document.currentScript.src;
  let shared;

  /** A module that JupyterLab shares, whichever version it has; undefined if it has none. */
  async function load(name) {
    const versions = shared[name] || {};
    const version = Object.keys(versions)[0];
    return version ? (await versions[version].get())() : undefined;
  }

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB['taccuino'] = {
    init(scope) {
      shared = scope;
    },
    async get(name) {
      if (name !== './extension') {
        throw new Error(`taccuino: there is no module ${name}`);
      }
      const { plugins } = await import(new URL('plugins.js', here).href);
      const found = await plugins(load);
      return () => ({ __esModule: true, default: found });
    }
  };
})();
