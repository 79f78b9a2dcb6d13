"""The content of the plots, as plain data that `report` draws."""
