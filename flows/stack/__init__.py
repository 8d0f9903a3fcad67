"""All servers of a project as plain processes of this machine; `make stack` starts them."""
