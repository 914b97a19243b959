-- Beside the table of ../orders/schema.sql.
CREATE TABLE reports (
  day       date PRIMARY KEY,
  orders    bigint NOT NULL,
  cents     bigint NOT NULL,
  best_item text
);
