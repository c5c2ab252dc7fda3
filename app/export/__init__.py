"""What leaves the program: tables, stand-alone pages, pictures of plots, presets, the clipboard."""
