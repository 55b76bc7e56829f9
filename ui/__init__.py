"""What the pages are made of: the only code that knows both Streamlit and the engine."""
