"""What the cells about HTTP run: the apps that are asked, and who asks them."""
