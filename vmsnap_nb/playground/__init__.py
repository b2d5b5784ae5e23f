"""What the documentation's page *Playground* runs in a browser: images, plans and questions, without a machine."""
