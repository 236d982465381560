"""Worker processes: devices, launcher, standby, restarts."""
