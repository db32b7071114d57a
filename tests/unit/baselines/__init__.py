"""Every baseline against an oracle of plain forward passes (plain.py), and each rule by hand."""
