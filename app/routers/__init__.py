"""Parse, call one service, shape the reply."""

BASE_PATH = "/api/v1/payment"
