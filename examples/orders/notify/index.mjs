// Tells of orders that are worth it. It knows the row and nothing of who wrote it; a mail would be sent here.

export const handler = async (event) => {
  for (const { after: order, source } of event.Records) {
    const amount = `${Math.trunc(order.cents / 100)}.${String(order.cents % 100).padStart(2, "0")}`;
    console.log(`order ${order.id}: ${order.customer} bought ${order.item} for ${amount} (${source.table})`);
  }
};
