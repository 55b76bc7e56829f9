"""What outside a collection its owner named: the films and pictures it may show, the encoder it may load. Kept outside the collection."""
