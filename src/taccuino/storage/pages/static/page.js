// What the service told this page about itself and its user.

const told = document.body.dataset;

export const page = {
  username: told.username,
  prefix: told.prefix,
  hub: told.hub,
  shareDays: Number(told.shareDays),
  keepVersionsDays: Number(told.keepVersionsDays),
};

/** Where a file or a folder is opened in the user's own notebook server. */
export function jupyterAddress(place, key) {
  const path = `cloud_storage/${place.directory}/${key}`.replace(/\/$/, "");
  const encoded = path.split("/").map(encodeURIComponent).join("/");
  return `${page.hub}user-redirect/lab/tree/${encoded}`;
}
