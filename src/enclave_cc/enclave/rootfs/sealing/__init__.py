"""The agent's side: layers go in as tars and come out as files that the host may keep."""
