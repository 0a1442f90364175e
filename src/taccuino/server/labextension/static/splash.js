/* What covers JupyterLab until it can be used: it stands still, and is gone at once.
 *
 * JupyterLab's own turns three moons meanwhile, which takes processor time from what is waited
 * for, and fades for 0.2 s when all is there.
 */

const LONG_MILLISECONDS = 12000;
const RESET = 'apputils:reset';

/** The plugin. */
export function splash({ Dialog, ISplashScreen, node }) {
  return {
    id: 'taccuino:splash',
    description: 'Covers JupyterLab until it can be used.',
    autoStart: true,
    provides: ISplashScreen,
    activate: app => new Splash(app, Dialog, node)
  };
}

class Splash {
  constructor(app, Dialog, node) {
    this.app = app;
    this.Dialog = Dialog;
    this.cover = node('div', { id: 'jupyterlab-splash', role: 'status' }, 'Loading JupyterLab …');
    this.shown = 0;
  }

  /** Covers the page until what it answers with is disposed of, and JupyterLab is there. */
  show(light = true) {
    this.cover.className = `taccuino-splash ${light ? 'light' : 'dark'}`;
    document.body.append(this.cover);
    this.shown += 1;
    this.waitLong();
    let disposed = false;
    return {
      get isDisposed() {
        return disposed;
      },
      dispose: () => {
        if (!disposed) {
          disposed = true;
          void this.app.restored.then(() => this.hide());
        }
      }
    };
  }

  hide() {
    this.shown -= 1;
    if (this.shown === 0) {
      clearTimeout(this.timer);
      this.dialog?.dispose();
      this.cover.remove();
    }
  }

  waitLong() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => void this.ask(), LONG_MILLISECONDS);
  }

  /** Offers a way out where it hangs, as JupyterLab's own does. */
  async ask() {
    const { Dialog, app } = this;
    this.dialog = new Dialog({
      title: 'JupyterLab takes long to load',
      body: 'Clearing the workspace may help: what was open in it is closed, files stay as they are.',
      buttons: [
        Dialog.cancelButton({ label: 'Keep waiting' }),
        Dialog.warnButton({ label: 'Clear the workspace' })
      ],
      defaultButton: 0
    });
    try {
      const { button } = await this.dialog.launch();
      if (button.accept && app.commands.hasCommand(RESET)) {
        await app.commands.execute(RESET);
      }
    } catch (error) {
      return; // it was disposed of: all is there
    } finally {
      this.dialog = undefined;
    }
    if (this.shown > 0) {
      this.waitLong();
    }
  }
}
