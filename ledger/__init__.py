"""What is true: signed events, the rules that admit them, and the store that keeps them."""
