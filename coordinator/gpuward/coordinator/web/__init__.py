"""The coordinator's faces for people and programs: web pages and a JSON API."""
