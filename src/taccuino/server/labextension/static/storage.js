/* The state of the cloud storage: an item in the status bar, and a panel with the details. */

const WARN_AT = 0.9;
const CLOUD =
  'M4.4 12.5a3.1 3.1 0 0 1-.4-6.2A4.1 4.1 0 0 1 12 5.6a3.5 3.5 0 0 1-.4 6.9z';

/** What the item says, and how grave it is: `ok`, `busy`, `warning` or `error`. */
export function summary(storage) {
  const waiting = storage.uploads_pending || 0;
  const failed = storage.failed || 0;
  if (!storage.known) {
    return { text: 'Cloud storage', level: 'ok' };
  }
  if (storage.away) {
    const uploads = waiting ? `, ${waiting} ${wait(waiting)}` : '';
    return { text: `Storage away${uploads}`, level: 'error' };
  }
  if (failed) {
    return { text: `${count(failed, 'file')} not uploaded`, level: 'error' };
  }
  if (waiting) {
    return { text: `${count(waiting, 'upload')} ${wait(waiting)}`, level: 'busy' };
  }
  return { text: 'All saved to cloud storage', level: 'ok' };
}

/** How much of the quota is used: `percent` (of what is known), `words`, `level`. */
export function usage({ used_bytes: used, quota_bytes: quota }) {
  if (used === null || used === undefined) {
    return undefined;
  }
  if (!quota) {
    return { words: `${size(used)} used`, level: 'ok' };
  }
  const share = used / quota;
  const percent = Math.floor(share * 100);
  return {
    percent,
    words: `${size(used)} of ${size(quota)} used (${percent} %)`,
    level: share >= 1 ? 'error' : share >= WARN_AT ? 'warning' : 'ok'
  };
}

/** Bytes in words. */
export function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const wait = number => (number === 1 ? 'waits' : 'wait');
const count = (number, noun) => `${number} ${noun}${number === 1 ? '' : 's'}`;

export class StorageStatus {
  constructor(lab, app, statusBar) {
    const { node, Widget } = lab;
    this.lab = lab;
    this.app = app;
    this.text = node('span', { role: 'status' });
    this.fill = node('span');
    this.meter = node('span', { role: 'meter', class: 'taccuino-meter' }, this.fill);
    this.panel = node('div', {
      class: 'taccuino-panel jp-ThemedContainer',
      popover: 'auto',
      role: 'dialog',
      'aria-label': 'Cloud storage'
    });
    this.button = node(
      'button',
      { type: 'button', class: 'taccuino-status', 'aria-haspopup': 'dialog', click: () => this.open() },
      cloud(),
      this.text,
      this.meter
    );
    document.body.append(this.panel);
    this.widget = new Widget({ node: node('div', {}, this.button) });
    this.widget.id = 'taccuino-storage-status';
    if (statusBar) {
      statusBar.registerStatusItem('taccuino:storage', {
        item: this.widget,
        align: 'left',
        rank: 20,
        priority: 1
      });
    } else {
      app.shell.add(this.widget, 'top', { rank: 1000 }); // Notebook 7 has no status bar
    }
    this.widget.hide();
  }

  update(page) {
    this.page = page;
    const { text, level } = summary(page.storage);
    const used = usage(page.storage);
    this.widget.setHidden(!page.storage.known && !used);
    if (this.text.textContent !== text) {
      this.text.textContent = text; // read out only when it changes
    }
    this.button.dataset.level = level;
    this.button.title = [text, used && `Your bucket: ${used.words}`].filter(Boolean).join('\n');
    setMeter(this.meter, this.fill, used);
    if (this.panel.matches(':popover-open')) {
      this.fillPanel();
    }
  }

  open() {
    this.fillPanel();
    this.panel.showPopover();
    const anchor = this.button.getBoundingClientRect();
    const panel = this.panel.getBoundingClientRect();
    const above = anchor.top - panel.height - 6;
    const left = Math.min(anchor.left, window.innerWidth - panel.width - 8);
    this.panel.style.left = `${Math.max(8, left)}px`;
    this.panel.style.top = `${above > 0 ? above : anchor.bottom + 6}px`;
  }

  fillPanel() {
    const { node } = this.lab;
    const { storage, pages } = this.page;
    const used = usage(storage);
    const parts = [node('h2', {}, 'Cloud storage')];
    const { text, level } = summary(storage);
    parts.push(node('p', { class: `taccuino-${level}` }, storage.fault || `${text}.`));
    if (storage.away && storage.uploads_pending) {
      const files = count(storage.uploads_pending, 'saved file');
      const verb = wait(storage.uploads_pending);
      parts.push(node('p', {}, `${files} ${verb} on this machine, safe, until it is back.`));
    }
    if (used) {
      const fill = node('span');
      const meter = node('div', { role: 'meter', class: 'taccuino-meter' }, fill);
      setMeter(meter, fill, used);
      parts.push(node('p', {}, `Your bucket: ${used.words}`), meter);
      if (used.level !== 'ok') {
        const full = used.level === 'error';
        const what = full ? 'It is full: nothing more is uploaded.' : 'It is nearly full.';
        const advice = 'Delete what you no longer need, also earlier versions, in the storage pages.';
        parts.push(node('p', { class: `taccuino-${used.level}` }, `${what} ${advice}`));
      }
    }
    const errors = storage.upload_errors || [];
    if (errors.length) {
      parts.push(node('h3', {}, 'Not uploaded'));
      const items = errors.map(({ message, advice }) => node('li', {}, `${message} ${advice}`));
      parts.push(node('ul', {}, ...items));
    }
    const conflicts = storage.conflicts || [];
    if (conflicts.length) {
      parts.push(node('h3', {}, 'Changed elsewhere too; the other version:'));
      parts.push(node('ul', {}, ...conflicts.map(item => this.conflict(item))));
    }
    const link = { href: pages, target: '_blank', rel: 'noopener' };
    parts.push(node('p', {}, node('a', link, 'Browse your files in the storage pages')));
    this.panel.replaceChildren(...parts);
  }

  conflict({ copy }) {
    const open = () => {
      this.panel.hidePopover();
      void this.app.commands.execute('docmanager:open', { path: copy });
    };
    return this.lab.node(
      'li',
      {},
      this.lab.node('button', { type: 'button', class: 'taccuino-link', click: open }, copy)
    );
  }
}

function setMeter(meter, fill, used) {
  meter.hidden = !used || used.percent === undefined;
  if (meter.hidden) {
    return;
  }
  const shown = Math.min(used.percent, 100);
  meter.dataset.level = used.level;
  meter.setAttribute('aria-label', 'Used of your quota');
  meter.setAttribute('aria-valuemin', '0');
  meter.setAttribute('aria-valuemax', '100');
  meter.setAttribute('aria-valuenow', String(shown));
  meter.setAttribute('aria-valuetext', used.words);
  fill.style.width = `${shown}%`;
}

function cloud() {
  const names = 'http://www.w3.org/2000/svg';
  const icon = document.createElementNS(names, 'svg');
  icon.setAttribute('viewBox', '0 0 16 16');
  icon.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(names, 'path');
  path.setAttribute('d', CLOUD);
  icon.append(path);
  return icon;
}
