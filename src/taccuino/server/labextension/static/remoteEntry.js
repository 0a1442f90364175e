/* The front end of Taccuino in JupyterLab and Notebook 7: shows notices.
 *
 * Hand-written as a module-federation container (`init`, `get`), which is what JupyterLab loads;
 * there is no build step. Everything of JupyterLab's comes from the scope that it shares, so the
 * file works with every 4.x.
 */
(() => {
  'use strict';

  const POLL_SECONDS = 15;
  const HIDDEN_POLL_SECONDS = 60; // the warning of an idle server must be there on coming back
  let shared;

  /** A module that JupyterLab shares, whichever version it has. */
  async function load(name) {
    const versions = shared[name] || {};
    const version = Object.keys(versions)[0];
    if (!version) {
      throw new Error(`taccuino: ${name} is not shared by this front end`);
    }
    return (await versions[version].get())();
  }

  async function extension() {
    const [{ Notification }, { URLExt }, { ServerConnection }, { Widget }, { IDefaultFileBrowser }] =
      await Promise.all([
        load('@jupyterlab/apputils'),
        load('@jupyterlab/coreutils'),
        load('@jupyterlab/services'),
        load('@lumino/widgets'),
        load('@jupyterlab/filebrowser')
      ]);

    /** Asks the server; the answer's JSON, or undefined while it can't answer. */
    async function request(path, init) {
      const settings = ServerConnection.makeSettings();
      const url = URLExt.join(settings.baseUrl, 'taccuino', path);
      let response;
      try {
        response = await ServerConnection.makeRequest(url, init, settings);
      } catch (error) {
        return undefined; // JupyterLab itself says that the connection is lost
      }
      return response.ok && response.status !== 204 ? response.json() : undefined;
    }

    /** The notices that are shown as banners above the list of files. */
    class Banner extends Widget {
      constructor() {
        super();
        this.addClass('taccuino-banner');
        this.node.setAttribute('aria-label', 'Notices of the service');
        this.dismissed = new Set();
        this.hide();
      }

      show_notices(notices) {
        const wanted = notices.filter(notice => !this.dismissed.has(notice.id));
        const key = JSON.stringify(wanted);
        if (key === this.key) {
          return;
        }
        this.key = key;
        this.node.replaceChildren(...wanted.map(notice => this.line(notice)));
        this.setHidden(wanted.length === 0);
      }

      line(notice) {
        const line = document.createElement('div');
        line.setAttribute('role', 'alert');
        line.style.cssText =
          'display:flex;gap:6px;align-items:flex-start;padding:6px 8px;line-height:1.35;' +
          'border-left:4px solid var(--jp-error-color1);border-bottom:1px solid ' +
          'var(--jp-border-color2);background:var(--jp-layout-color2);color:var(--jp-ui-font-color1);' +
          'font-size:var(--jp-ui-font-size1)';
        const text = document.createElement('span');
        text.style.flex = '1';
        text.textContent = notice.message;
        const close = document.createElement('button');
        close.type = 'button';
        close.textContent = '×';
        close.title = 'Dismiss';
        close.setAttribute('aria-label', `Dismiss: ${notice.message}`);
        close.style.cssText =
          'border:0;background:none;color:inherit;cursor:pointer;font-size:16px;line-height:1;padding:2px 4px';
        close.addEventListener('click', () => {
          this.dismissed.add(notice.id);
          line.remove();
          this.setHidden(this.node.childElementCount === 0);
        });
        line.append(text, close);
        return line;
      }
    }

    /** Shows each notice once, updates it when its text changes, withdraws it when it is over. */
    class Notifications {
      constructor() {
        this.shown = new Map();
      }

      update(notices) {
        const now = new Set(notices.map(notice => notice.id));
        for (const [id, item] of this.shown) {
          if (!now.has(id)) {
            Notification.dismiss(item.key);
            this.shown.delete(id);
          }
        }
        for (const notice of notices) {
          const before = this.shown.get(notice.id);
          if (before && before.message === notice.message) {
            continue;
          }
          if (before && Notification.manager.has(before.key)) {
            Notification.update({ id: before.key, message: notice.message });
            this.shown.set(notice.id, { key: before.key, message: notice.message });
          } else if (!before) {
            this.shown.set(notice.id, { key: this.emit(notice), message: notice.message });
          }
        }
      }

      emit(notice) {
        const options = { autoClose: notice.level === 'info' ? 10000 : false };
        if (notice.keepalive) {
          options.actions = [
            {
              label: 'Keep it running',
              displayType: 'accent',
              callback: () => void request('keepalive', { method: 'POST' })
            }
          ];
        }
        return Notification.emit(notice.message, notice.level === 'info' ? 'info' : notice.level, options);
      }
    }

    return {
      id: 'taccuino:notices',
      description: 'Shows the notices of the service.',
      autoStart: true,
      optional: [IDefaultFileBrowser],
      activate: (app, browser) => {
        const notifications = new Notifications();
        let banner;
        if (browser && browser.layout && browser.layout.insertWidget) {
          banner = new Banner();
          browser.layout.insertWidget(0, banner);
        }
        let timer;
        const poll = async () => {
          const answer = await request('notices', {});
          if (answer) {
            const forBanner = banner ? answer.notices.filter(notice => notice.banner) : [];
            if (banner) {
              banner.show_notices(forBanner);
            }
            notifications.update(answer.notices.filter(notice => !forBanner.includes(notice)));
          }
          clearTimeout(timer);
          timer = setTimeout(poll, (document.hidden ? HIDDEN_POLL_SECONDS : POLL_SECONDS) * 1000);
        };
        void app.restored.then(() => {
          void poll();
          document.addEventListener('visibilitychange', () => void poll());
        });
      }
    };
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
      const plugin = await extension();
      return () => ({ __esModule: true, default: plugin });
    }
  };
})();
