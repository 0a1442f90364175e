/* The plugins: what JupyterLab has to offer them, and when they run. */

import { firstCell } from './first_cell.js';
import { Banner, Notifications } from './notices.js';
import { resolver } from './resolver.js';
import { sharing } from './sharing.js';
import { splash } from './splash.js';
import { StorageStatus } from './storage.js';
import { styles } from './styles.js';

const POLL_SECONDS = 3;
const HIDDEN_POLL_SECONDS = 60; // the warning of an idle server must be there on coming back

/** The plugins, over `load`, which answers with a module that JupyterLab shares. */
export async function plugins(load) {
  const shared = await Promise.all(
    [
      '@jupyterlab/application',
      '@jupyterlab/apputils',
      '@jupyterlab/codemirror',
      '@jupyterlab/coreutils',
      '@jupyterlab/docmanager',
      '@jupyterlab/filebrowser',
      '@jupyterlab/notebook',
      '@jupyterlab/services',
      '@jupyterlab/statusbar',
      '@lumino/widgets'
    ].map(load)
  );
  const lab = Object.assign({}, ...shared);
  const { IStatusBar, PageConfig, ServerConnection, URLExt } = lab;

  /** Asks the server; its response. Throws if there is none. */
  lab.ask = (path, init = {}) => {
    const settings = ServerConnection.makeSettings();
    const url = URLExt.join(settings.baseUrl, 'taccuino', path);
    return ServerConnection.makeRequest(url, init, settings);
  };
  lab.node = node;
  document.head.append(node('style', {}, styles));
  const optional = tokens => tokens.filter(token => token);
  return [
    {
      id: 'taccuino:notices',
      description: 'Shows the notices of the service and the state of the cloud storage.',
      autoStart: true,
      optional: optional([lab.IDefaultFileBrowser, IStatusBar]),
      activate: (app, browser, statusBar) => {
        const storage = new StorageStatus(lab, app, statusBar);
        const banner = new Banner(lab, app, browser, Boolean(statusBar));
        const notifications = new Notifications(lab, app, () => storage.open());
        const show = page => {
          const forBanner = banner.there ? page.notices.filter(notice => notice.banner) : [];
          banner.update(forBanner);
          notifications.update(page.notices.filter(notice => !forBanner.includes(notice)));
          storage.update(page);
        };
        void app.restored.then(() => follow(lab.ask, show));
      }
    },
    sharing(lab),
    ...firstCell(lab),
    // Notebook 7 has no workspaces, and a splash screen of its own.
    ...(PageConfig.getOption('notebookPage') ? [] : [resolver(lab), splash(lab)])
  ];
}

/** Shows the notices, and again whenever they have changed. */
function follow(ask, show) {
  let timer;
  let shown;
  const poll = async () => {
    clearTimeout(timer);
    try {
      // The browser asks whether they are still what it has, and mostly hears that they are.
      const response = await ask('notices', { cache: 'no-cache' });
      const text = response.ok ? await response.text() : shown;
      if (text !== shown) {
        show(JSON.parse(text));
        shown = text;
      }
    } catch (error) {
      // JupyterLab itself says that the connection is lost
    }
    clearTimeout(timer); // another one may have begun in the meantime
    timer = setTimeout(poll, (document.hidden ? HIDDEN_POLL_SECONDS : POLL_SECONDS) * 1000);
  };
  void poll();
  document.addEventListener('visibilitychange', () => void poll());
}

/** An element: its attributes (functions are listeners) and what is in it. */
function node(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') {
      element.addEventListener(name, value);
    } else if (value !== undefined && value !== null && value !== false) {
      element.setAttribute(name, value === true ? '' : value);
    }
  }
  element.append(...children);
  return element;
}
