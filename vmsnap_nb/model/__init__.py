"""What is known of images, chains, forests and guests: frozen values that touch no machine."""
