/* "Copy to scratch and get a link", in the file browser's menu and the command palette. */

const COMMAND = 'taccuino:copy-to-scratch';
const POLL_MS = 500;
const LABEL = 'Copy to scratch and get a link';

/** The plugin. */
export function sharing(lab) {
  const { ICommandPalette, IDocumentManager, IFileBrowserFactory } = lab;
  return {
    id: 'taccuino:sharing',
    description: 'Copies files and folders to scratch, for the other users of the service.',
    autoStart: true,
    optional: [IFileBrowserFactory, ICommandPalette, IDocumentManager].filter(token => token),
    activate: (app, browsers, palette, documents) => {
      const { contents } = app.serviceManager;

      /** The one selected item of the file browser; or else the document in front. */
      const chosen = () => {
        const browser = browsers && browsers.tracker.currentWidget;
        const selected = browser ? Array.from(browser.selectedItems()) : [];
        if (selected.length > 0) {
          return selected.length === 1 ? contents.localPath(selected[0].path) : undefined;
        }
        const widget = app.shell.currentWidget;
        const context = documents && widget && documents.contextForWidget(widget);
        return context ? contents.localPath(context.path) : undefined;
      };
      app.commands.addCommand(COMMAND, {
        label: LABEL,
        caption: 'All users of the service can read the copy',
        isEnabled: () => chosen() !== undefined,
        execute: () => share(lab, chosen())
      });
      app.contextMenu.addItem({
        command: COMMAND,
        selector: '.jp-DirListing-item[data-isdir]',
        rank: 9.5
      });
      if (palette) {
        palette.addItem({ command: COMMAND, category: 'File Operations' });
      }
    }
  };
}

/** Copies what lies at a path and shows the link; or why that was not possible. */
async function share(lab, path) {
  const { showErrorMessage } = lab;
  try {
    let copy = await answer(
      lab.ask('copies', { method: 'POST', body: JSON.stringify({ path }) })
    );
    if (copy.state === 'copying') {
      copy = await watch(lab, path, copy);
    }
    if (copy.state === 'done') {
      await show(lab, copy);
    } else if (copy.state === 'failed') {
      await showErrorMessage(LABEL, copy.message);
    }
  } catch (error) {
    await showErrorMessage(LABEL, error.message);
  }
}

async function answer(request) {
  const response = await request;
  if (response.status === 204) {
    return undefined;
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(body.message || `The server answered with status ${response.status}.`);
  }
  return body;
}

/** Follows a long copy, which can be cancelled; how it ended. */
async function watch(lab, path, started) {
  const { node, Dialog, Widget } = lab;
  const bar = node('progress', { max: '1', 'aria-label': `Copying ${path}` });
  const dialog = new Dialog({
    title: 'Copying to scratch',
    body: new Widget({ node: node('div', { class: 'taccuino-share' }, node('p', {}, path), bar) }),
    buttons: [Dialog.cancelButton({ label: 'Cancel the copy' })]
  });
  let copy = started;
  let open = true;
  void dialog.launch().then(() => {
    open = false;
    if (copy.state === 'copying') {
      void lab.ask(`copies/${started.id}`, { method: 'DELETE' });
    }
  });
  while (copy.state === 'copying') {
    if (copy.total_bytes) {
      bar.value = copy.copied_bytes / copy.total_bytes;
    }
    await new Promise(resolve => setTimeout(resolve, POLL_MS));
    copy = await answer(lab.ask(`copies/${started.id}`)).catch(() => copy);
  }
  if (open) {
    dialog.dispose();
  }
  return copy;
}

/** The dialog with the link. */
async function show(lab, copy) {
  const { node, Dialog, Widget, showDialog } = lab;
  const link = new URL(copy.link, location.origin).href;
  const field = node('input', {
    type: 'text',
    class: 'jp-mod-styled',
    readonly: true,
    value: link,
    'aria-label': 'Link to the copy',
    focus: () => field.select()
  });
  const said = node('span', { role: 'status' });
  const take = async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(link);
    } catch (error) {
      document.execCommand('copy'); // without TLS there is no clipboard of the newer kind
    }
    said.textContent = 'Copied.';
  };
  const button = { type: 'button', class: 'jp-Dialog-button jp-mod-accept jp-mod-styled', click: take };
  const parts = [
    node('p', {}, 'Copied to ', node('code', {}, copy.path), '.'),
    node('p', {}, 'All users of this service can read it. The link opens it in their own server.'),
    node('div', { class: 'taccuino-row' }, field, node('button', button, 'Copy the link')),
    said
  ];
  if (copy.left_out) {
    const what = copy.left_out === 1 ? '1 link or special file was' : `${copy.left_out} links or special files were`;
    parts.push(node('p', {}, `${what} left out.`));
  }
  await showDialog({
    title: 'Shared in scratch',
    body: new Widget({ node: node('div', { class: 'taccuino-share' }, ...parts) }),
    buttons: [Dialog.cancelButton({ label: 'Close' })],
    focusNodeSelector: '.taccuino-row button'
  });
}
