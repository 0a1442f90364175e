/* Notices: what stays in sight as a banner, and what comes as a notification. */

/** The banners: across the top of JupyterLab, above the list of files elsewhere. */
export class Banner {
  constructor(lab, app, browser, inLab) {
    const { node, Widget } = lab;
    this.node = node;
    this.dismissed = new Set();
    this.widget = new Widget();
    this.widget.id = 'taccuino-banner';
    this.widget.addClass('taccuino-banner');
    this.widget.node.setAttribute('role', 'region');
    this.widget.node.setAttribute('aria-label', 'Notices of the service');
    this.lines = node('div');
    this.widget.node.append(this.lines);
    this.widget.hide();
    this.there = true;
    if (inLab) {
      app.shell.add(this.widget, 'header');
      new ResizeObserver(() => this.fit()).observe(this.lines);
    } else if (browser && browser.layout && browser.layout.insertWidget) {
      browser.layout.insertWidget(0, this.widget);
    } else {
      this.there = false;
    }
  }

  update(notices) {
    const wanted = notices.filter(notice => !this.dismissed.has(notice.id));
    const key = JSON.stringify(wanted);
    if (key === this.key) {
      return;
    }
    this.key = key;
    this.lines.replaceChildren(...wanted.map(notice => this.line(notice)));
    this.widget.setHidden(wanted.length === 0);
  }

  /** JupyterLab's header gives its widgets the height that they ask for, and no more. */
  fit() {
    this.widget.node.style.minHeight = `${this.lines.offsetHeight}px`;
    this.widget.parent?.fit();
  }

  line(notice) {
    const { node } = this;
    const close = () => {
      this.dismissed.add(notice.id);
      line.remove();
      this.widget.setHidden(this.lines.childElementCount === 0);
    };
    const label = { type: 'button', title: 'Dismiss', 'aria-label': `Dismiss: ${notice.message}` };
    const line = node(
      'div',
      { role: 'alert', class: `taccuino-line taccuino-${notice.level}` },
      node('span', {}, notice.message),
      node('button', { ...label, click: close }, '×')
    );
    return line;
  }
}

/** Shows each notice once, updates it when its text changes, withdraws it when it is over. */
export class Notifications {
  constructor(lab, app, details) {
    this.lab = lab;
    this.app = app;
    this.details = details;
    this.shown = new Map();
  }

  update(notices) {
    const { Notification } = this.lab;
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
    const topic = notice.id.split('-', 1)[0];
    if (notice.keepalive) {
      const callback = () => void this.lab.ask('keepalive', { method: 'POST' });
      options.actions = [{ label: 'Keep it running', displayType: 'accent', callback }];
    } else if (notice.open) {
      options.actions = this.actions(notice.open);
    } else if (topic === 'upload') {
      options.actions = [{ label: 'Details', displayType: 'default', callback: this.details }];
    }
    return this.lab.Notification.emit(notice.message, notice.level, options);
  }

  /** For the other version of a file: open it, or show where it lies. */
  actions(path) {
    const { commands } = this.app;
    const run = (command, argument) => () => void commands.execute(command, { path: argument });
    const folder = path.slice(0, path.lastIndexOf('/'));
    const actions = [
      ['docmanager:open', 'Open the other version', 'accent', path],
      ['filebrowser:go-to-path', 'Show its folder', 'default', folder]
    ];
    return actions
      .filter(([command]) => commands.hasCommand(command))
      .map(([command, label, displayType, argument]) => ({
        label,
        displayType,
        callback: run(command, argument)
      }));
  }
}
