"""A small photo shop: one domain (``shop/``), two front doors (``fastapi_app.py``, ``litestar_app.py``)."""
