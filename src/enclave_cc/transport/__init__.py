"""IO that several rooms share: moves bytes, maps failures, checks nothing about their content."""
