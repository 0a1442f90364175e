/* Which workspace this window has: its name belongs to one window at a time.
 *
 * JupyterLab's own waits up to half a second for other windows to say that the name is theirs,
 * and restores nothing before. Where the browser has locks (Web Locks API), a window holds one
 * for its name for as long as it lives, and knows at once whether the name is free.
 */

const OTHERS_MILLISECONDS = 500; // a window that is reloaded gives its name back in a moment
const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';

/** The plugin. */
export function resolver({ IRouter, IWindowResolver, PageConfig, URLExt, WindowResolver }) {
  return {
    id: 'taccuino:resolver',
    description: 'Provides the name of the window, which is its workspace.',
    autoStart: true,
    provides: IWindowResolver,
    requires: [IRouter],
    activate: async (app, router) => {
      const name = PageConfig.getOption('workspace') || PageConfig.defaultWorkspace;
      if (navigator.locks) {
        if (await hold(`${PageConfig.getBaseUrl()}lab/workspaces/${name}`)) {
          return { name };
        }
      } else {
        const own = new WindowResolver(); // the page came over plain HTTP
        if (await own.resolve(name).then(() => true, () => false)) {
          return own;
        }
      }
      leave(router, PageConfig, URLExt);
      return new Promise(() => undefined); // nothing is restored into a page that goes away
    }
  };
}

/** Whether this window got the lock, which it keeps until it is closed or goes elsewhere. */
function hold(lock) {
  return new Promise(resolve => {
    const signal = AbortSignal.timeout(OTHERS_MILLISECONDS);
    const kept = () => {
      resolve(true);
      return new Promise(() => undefined);
    };
    navigator.locks.request(lock, { signal }, kept).catch(() => resolve(false));
  });
}

/** Opens the page again with an empty workspace of a name of its own, as JupyterLab's does. */
function leave(router, PageConfig, URLExt) {
  const { hash, search } = router.current;
  const mode = PageConfig.getOption('mode') === 'multiple-document' ? 'lab' : 'doc';
  const letter = LETTERS[Math.floor(Math.random() * LETTERS.length)];
  const path = PageConfig.getOption('treePath');
  const tree = path ? ['tree', URLExt.encodeParts(path)] : [];
  const place = URLExt.join(router.base, mode, 'workspaces', `auto-${letter}`, ...tree);
  const query = { ...URLExt.queryStringToObject(search || ''), reset: '1' };
  router.navigate(place + URLExt.objectToQueryString(query) + (hash || ''), { hard: true });
}
