"""What makes the book from its sources. It needs the clone and the `book` extra, and is no part of the library."""
