"""Modelfiles: the text (`syntax`), the options it may set (`parameters`), building (`build`)."""
