/* The first cell of a notebook: it can be run before there is a kernel, and then waits for it.
 *
 * JupyterLab's own executor drops what is run while a notebook's kernel is still being started.
 */

const BEGIN_MILLISECONDS = 2000; // a notebook that opens has begun to start its kernel by then
const QUIET_MILLISECONDS = 1000; // so long the page has the processor for itself

/** The plugins. */
export function firstCell({ IEditorLanguageRegistry, INotebookCellExecutor, runCell }) {
  return [executor(INotebookCellExecutor, runCell), language(IEditorLanguageRegistry)];
}

function executor(INotebookCellExecutor, runCell) {
  return {
    id: 'taccuino:cell-executor',
    description: 'Runs the cells of notebooks, as soon as there is a kernel.',
    autoStart: true,
    provides: INotebookCellExecutor,
    activate: () =>
      Object.freeze({
        runCell: async options => {
          const { cell, sessionContext } = options;
          if (cell.model.type === 'code' && sessionContext && awaitsKernel(sessionContext)) {
            cell.model.executionState = 'running'; // is shown as [*]
            await kernelOrNone(sessionContext);
            if (cell.isDisposed) {
              return false;
            }
            cell.model.executionState = 'idle';
          }
          return runCell(options);
        }
      })
  };
}

/** Loads what edits Python, which JupyterLab does when a notebook's kernel has said its language. */
function language(IEditorLanguageRegistry) {
  return {
    id: 'taccuino:language',
    description: 'Loads the language of most notebooks ahead.',
    autoStart: true,
    requires: [IEditorLanguageRegistry],
    activate: (app, languages) => {
      const load = () => void languages.getLanguage('ipython').catch(() => undefined);
      void app.restored.then(() => setTimeout(load, QUIET_MILLISECONDS));
    }
  };
}

/** Whether a kernel may be on its way. */
function awaitsKernel(context) {
  return !context.isDisposed && !context.isReady && !context.session?.kernel;
}

/** Resolves when there is a kernel, its start has failed, or nobody starts one. */
async function kernelOrNone(context) {
  const begun = new Promise(resolve => setTimeout(resolve, BEGIN_MILLISECONDS));
  const none = begun.then(() => (context.hasNoKernel ? undefined : context.ready));
  await Promise.race([context.ready, none]);
}
