"""The storage pages: a user's object storage in the browser, without a notebook server.

A service of its own (``python -m taccuino.storage.pages``) that logs its users in through
JupyterHub's OAuth and does everything with the user's own storage credentials, so that the
storage's policies decide. `application` joins the parts: `login` (who asks), `handlers` (HTTP),
`bucket` and its siblings (what is done in the storage), `keys` and `presigned` (pure rules).
"""
