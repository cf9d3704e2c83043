// SPDX-License-Identifier: GPL-2.0
/*
 * What a hostile kernel can do to rings that it donated: indices, sizes and descriptors that make no sense, and
 * all of it changing while the host reads. The host may give the channel up until it is closed; it must do
 * nothing worse, and the next opening must work.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/module.h>

#include "ring_probe.h"

/* How long a ring is rewritten under the host's eyes. */
#define SCRIBBLE_MS	200
/* What the host gets to look at a spoilt ring. */
#define LOOK_MS		20

static void signal(struct link *link)
{
	vmbus_setevent(link->channel);
	msleep(LOOK_MS);
}

/* ---- Indices and sizes ---- */

static void spoil_write_index(struct link *link, u64 *random, u32 value)
{
	WRITE_ONCE(link->channel->outbound.ring_buffer->write_index, value);
	signal(link);
}

static void write_index_past_end(struct link *link, u64 *random)
{
	spoil_write_index(link, random, link->channel->outbound.ring_datasize);
}

static void write_index_largest(struct link *link, u64 *random)
{
	spoil_write_index(link, random, U32_MAX);
}

static void write_index_odd(struct link *link, u64 *random)
{
	spoil_write_index(link, random, 3);
}

static void read_index_past_end(struct link *link, u64 *random)
{
	WRITE_ONCE(link->channel->inbound.ring_buffer->read_index, U32_MAX - 7);
	traffic_sink(link, 0, 1, 0);
	signal(link);
}

static void pending_size_largest(struct link *link, u64 *random)
{
	WRITE_ONCE(link->channel->outbound.ring_buffer->pending_send_sz, U32_MAX);
	WRITE_ONCE(link->channel->inbound.ring_buffer->interrupt_mask, U32_MAX);
	signal(link);
}

/* ---- Packets ---- */

/* Puts 64 bytes that begin with this descriptor into the ring, with nothing behind them. */
static void put(struct link *link, u16 type, u16 offset8, u16 len8, u32 word)
{
	struct hv_ring_buffer *ring = link->channel->outbound.ring_buffer;
	u32 size = link->channel->outbound.ring_datasize;
	u32 at = ring->write_index;
	u32 words[16] = {
		type | offset8 << 16, len8 | VMBUS_DATA_PACKET_FLAG_COMPLETION_REQUESTED << 16,
		1, 0, word, word, word, word, word, word, word, word, word, word, word, word
	};
	u32 i;

	for (i = 0; i < sizeof(words); i += 4)
		memcpy(ring->buffer + (at + i) % size, (void *)words + i, 4);
	virt_wmb();
	WRITE_ONCE(ring->write_index, (at + sizeof(words)) % size);
	signal(link);
}

static void packet_of_nothing(struct link *link, u64 *random)
{
	put(link, VM_PKT_DATA_INBAND, 0, 0, 0);
}

static void packet_data_before_start(struct link *link, u64 *random)
{
	put(link, VM_PKT_DATA_INBAND, 1, 7, 0);
}

static void packet_data_past_end(struct link *link, u64 *random)
{
	put(link, VM_PKT_DATA_INBAND, 8, 7, 0);
}

static void packet_past_write_index(struct link *link, u64 *random)
{
	put(link, VM_PKT_DATA_INBAND, 2, 0xffff, 0);
}

static void packet_of_no_type(struct link *link, u64 *random)
{
	put(link, 0xffff, 2, 7, U32_MAX);
}

static void packet_shorter_than_header(struct link *link, u64 *random)
{
	put(link, VM_PKT_DATA_INBAND, 5, 7, LOOPBACK_ECHO);
}

static void packet_of_no_operation(struct link *link, u64 *random)
{
	put(link, VM_PKT_DATA_INBAND, 2, 7, U32_MAX);
}

/* Ranges without end: every count, size, offset and frame is this number. */
static void packet_of_many_ranges(struct link *link, u64 *random)
{
	put(link, VM_PKT_DATA_USING_GPA_DIRECT, 4, 7, U32_MAX);
}

static void packet_of_wrong_operation(struct link *link, u64 *random)
{
	put(link, VM_PKT_DATA_INBAND, 2, 7, LOOPBACK_GPA_INVERT);
}

/* ---- Everything at once ---- */

/* Rewrites control words and data while the host reads them. */
static void scribble(struct link *link, u64 *random)
{
	struct hv_ring_buffer_info *out = &link->channel->outbound, *in = &link->channel->inbound;
	unsigned long end = jiffies + msecs_to_jiffies(SCRIBBLE_MS);

	while (time_before(jiffies, end)) {
		u64 number = next_random(random);
		u32 index = ((u32)(number >> 32) % out->ring_datasize) & ~7u;

		/* Mostly indices that are good ones: bad ones end it at once. */
		*(u64 *)(out->ring_buffer->buffer + index) = number & 0x0003000700020006;
		WRITE_ONCE(out->ring_buffer->write_index, number & 0xff ? index : (u32)number);
		WRITE_ONCE(in->ring_buffer->read_index, number & 0xff00 ? in->ring_buffer->write_index : index);
		WRITE_ONCE(out->ring_buffer->pending_send_sz, number >> 16);
		WRITE_ONCE(in->ring_buffer->interrupt_mask, number & 1);
		if (number % 64 == 0)
			vmbus_setevent(link->channel);
		cond_resched();
	}
	signal(link);
}

static void (*const KINDS[])(struct link *link, u64 *random) = {
	write_index_past_end, write_index_largest, write_index_odd, read_index_past_end, pending_size_largest,
	packet_of_nothing, packet_data_before_start, packet_data_past_end, packet_past_write_index,
	packet_of_no_type, packet_shorter_than_header, packet_of_no_operation, packet_of_many_ranges,
	packet_of_wrong_operation, scribble,
};

u32 spoil_kinds(void)
{
	return ARRAY_SIZE(KINDS);
}

/* Spoils the rings of an open link, which is good for nothing but being closed afterwards. */
int spoil(struct link *link, u64 seed, u32 kind)
{
	u64 random = scramble(seed + kind);

	if (kind >= ARRAY_SIZE(KINDS))
		return -EINVAL;
	KINDS[kind](link, &random);
	return 0;
}
