"""What the plugin shows and reads in the viewer: layers, canvas, mouse."""
