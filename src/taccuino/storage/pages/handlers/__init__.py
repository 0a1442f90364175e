"""HTTP, and nothing else: what was asked, what is answered, and in which words it fails."""
