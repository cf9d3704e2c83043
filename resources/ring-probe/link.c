// SPDX-License-Identifier: GPL-2.0
/*
 * One opening of the channel with rings of exactly the sizes asked for, and its ways to send, to read and to
 * wait. Waits end by an interrupt of the host's, so that a lost one is found.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>

#include "ring_probe.h"

static void link_rung(void *context)
{
	struct link *link = context;

	wake_up(&link->rung);
}

int link_open(struct link *link, struct vmbus_channel *channel, struct rings rings)
{
	struct loopback_wish wish = {
		.magic = cpu_to_le32(LOOPBACK_MAGIC),
		.max_payload = cpu_to_le32(rings.payload),
	};
	int error = -ENOMEM;

	*link = (struct link) { .channel = channel, .rings = rings };
	init_waitqueue_head(&link->rung);
	link->intr_in_full_before = channel->intr_in_full;
	link->request = kvzalloc(ring_bytes(rings.payload), GFP_KERNEL);
	link->answer = kvzalloc(ring_bytes(rings.payload), GFP_KERNEL);
	if (!link->request || !link->answer)
		goto fail;
	/* hv_pkt_iter_first copies each packet out of the ring, into a buffer of this size. */
	channel->max_pkt_size = ring_bytes(rings.payload);
	/* The callback only wakes; packets are read elsewhere, which batched mode does not know. */
	set_channel_read_mode(channel, HV_CALL_DIRECT);
	error = vmbus_open(channel, rings.out_pages * HV_HYP_PAGE_SIZE, rings.in_pages * HV_HYP_PAGE_SIZE,
			   &wish, sizeof(wish), link_rung, link);
	if (error)
		goto fail;
	return 0;
fail:
	kvfree(link->request);
	kvfree(link->answer);
	return error;
}

void link_close(struct link *link)
{
	/* Linux counts how often it told the host of room that the host was waiting for. */
	link->full_in = link->channel->intr_in_full - link->intr_in_full_before;
	vmbus_close(link->channel);
	kvfree(link->request);
	kvfree(link->answer);
}

static int link_sent(struct link *link, int error, u32 bytes)
{
	if (error == -EAGAIN)
		link->full_out++;
	if (!error) {
		link->packets_out++;
		link->bytes_out += bytes;
	}
	return error;
}

/* -EAGAIN: the ring is full. */
int link_send(struct link *link, const void *payload, u32 length, u64 id, bool completion)
{
	int error = vmbus_sendpacket(link->channel, (void *)payload, length, id, VM_PKT_DATA_INBAND,
				     completion ? VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED : 0);

	return link_sent(link, error, ring_bytes(length));
}

/* The same with ranges of guest memory; the completion flag is always set. */
int link_send_gpa(struct link *link, struct vmbus_packet_mpb_array *ranges, u32 ranges_length,
		  const void *payload, u32 length, u64 id)
{
	int error = vmbus_sendpacket_mpb_desc(link->channel, ranges, ranges_length, (void *)payload, length, id);

	return link_sent(link, error, ALIGN(ranges_length + length, 8) + TRAILER);
}

static void link_taken(struct link *link, const struct vmpacket_descriptor *packet)
{
	link->packets_in++;
	link->bytes_in += hv_pkt_len(packet) + TRAILER;
}

/*
 * Hands packets to `take`: the next one through vmbus_recvpacket_raw, which gives its room back at once, or all
 * there are through the iterator, which gives back the room of all at the end. Returns how many there were.
 */
int link_take(struct link *link, bool one_only, take_fn take, void *context)
{
	const struct vmpacket_descriptor *packet;
	int taken = 0;
	int error;

	if (one_only) {
		u32 length = 0;
		u64 id;

		error = vmbus_recvpacket_raw(link->channel, link->answer, ring_bytes(link->rings.payload), &length, &id);
		if (error || !length)
			return error;
		packet = (const struct vmpacket_descriptor *)link->answer;
		link_taken(link, packet);
		error = take(context, packet);
		return error ? error : 1;
	}
	foreach_vmbus_pkt(packet, link->channel) {
		link_taken(link, packet);
		taken++;
		error = take(context, packet);
		if (error) {
			hv_pkt_iter_close(link->channel);
			return error;
		}
	}
	return taken;
}

bool link_has_room(const struct link *link, u32 payload)
{
	/* Linux fills no ring to its last byte. */
	return hv_get_bytes_to_write(&link->channel->outbound) > ring_bytes(payload);
}

static bool link_stirs(const struct link *link, bool packet, u32 room_for)
{
	return (packet && hv_get_bytes_to_read(&link->channel->inbound)) ||
	       (room_for && link_has_room(link, room_for));
}

/* Waits for a packet, or for room for one of a payload of so many bytes, or for whichever comes first. */
int link_wait(struct link *link, bool packet, u32 room_for)
{
	struct vmbus_channel *channel = link->channel;
	long left;

	if (room_for)
		set_channel_pending_send_size(channel, ring_bytes(room_for));
	/* Its barrier also puts the pending size before the look at the room. */
	hv_end_read(&channel->inbound);
	left = wait_event_killable_timeout(link->rung, link_stirs(link, packet, room_for), PATIENCE);
	/* Who is awake needs no interrupts. */
	hv_begin_read(&channel->inbound);
	if (room_for)
		set_channel_pending_send_size(channel, 0);
	if (left > 0)
		return 0;
	if (left == 0)
		pr_err("the host did not ring: to read %u, to write %u, host waits for %u bytes\n",
		       hv_get_bytes_to_read(&channel->inbound), hv_get_bytes_to_write(&channel->outbound),
		       READ_ONCE(channel->inbound.ring_buffer->pending_send_sz));
	return left ? left : -ETIMEDOUT;
}

/* Whether the host waits for room in the incoming ring. */
bool link_blocked(const struct link *link)
{
	return READ_ONCE(link->channel->inbound.ring_buffer->pending_send_sz) != 0;
}

/*
 * Waits until the host waits for room in the incoming ring, or until there is some in the outgoing one, if that is
 * asked for. Nothing is read meanwhile. No interrupt tells that the host waits: the one thing that is polled for.
 */
int link_wait_blocked(struct link *link, u32 room_for)
{
	unsigned long deadline = jiffies + PATIENCE;

	while (!link_blocked(link) && !(room_for && link_has_room(link, room_for))) {
		if (time_after(jiffies, deadline)) {
			pr_err("the host never waited for room\n");
			return -ETIMEDOUT;
		}
		schedule_timeout_killable(1);
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}
