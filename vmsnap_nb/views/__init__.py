"""From the model to what people read: frames, graphviz, text figures, HTML. Pure."""
