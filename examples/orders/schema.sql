CREATE TABLE orders (
  id       uuid PRIMARY KEY,
  customer text NOT NULL,
  item     text NOT NULL,
  cents    bigint NOT NULL CHECK (cents > 0),
  placed   timestamptz NOT NULL DEFAULT now()
);
