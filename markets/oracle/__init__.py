"""What tokens are worth by somebody who does not trade here: Pyth's prices and the rates of stake pools."""
