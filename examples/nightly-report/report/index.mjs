// Sums up the day that has ended into the table of reports. Run again for the same day, it writes the same row.

import pg from "pg";

const REPORT = `
  INSERT INTO reports (day, orders, cents, best_item)
  SELECT $1::date, count(*), coalesce(sum(cents), 0), mode() WITHIN GROUP (ORDER BY item)
  FROM orders WHERE (placed AT TIME ZONE $2)::date = $1::date
  ON CONFLICT (day) DO UPDATE
    SET orders = excluded.orders, cents = excluded.cents, best_item = excluded.best_item
  RETURNING day::text, orders::int, cents::int, best_item`;

export const handler = async (event) => {
  const zone = process.env.ZONE;
  const day = event.day ?? dayBefore(new Date(event.time), zone);
  const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
  await client.connect();
  try {
    const { rows } = await client.query(REPORT, [day, zone]);
    const report = rows[0];
    console.log(`${report.day}: ${report.orders} orders, ${(report.cents / 100).toFixed(2)} in all`);
    return report;
  } finally {
    await client.end();
  }
};

// The calendar's day before a time, there.
function dayBefore(time, zone) {
  const today = new Intl.DateTimeFormat("en-CA", { timeZone: zone }).format(time);
  return new Date(Date.parse(`${today}T00:00:00Z`) - 86_400_000).toISOString().slice(0, 10);
}
