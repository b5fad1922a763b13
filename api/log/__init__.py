"""The log in public: what anybody needs to check it without trusting the provider."""
