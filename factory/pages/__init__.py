"""What the reports for people have in common: looks of charts, sheets of images, the HTML page."""
