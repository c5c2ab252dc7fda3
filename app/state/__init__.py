"""What the window's pages share: the model, the look-ahead file, the choices."""
