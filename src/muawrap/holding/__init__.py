"""The intermittently connected world: mail held for hosts that come and go, and the requests that fetch it."""
