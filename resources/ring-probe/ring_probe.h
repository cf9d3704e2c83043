/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of ring_probe share. Downwards: main.c chooses what to do; traffic.c, gpa.c, hostile.c and
 * spoil.c do it; packets.c makes and checks contents; link.c is one opening of the channel.
 */
#ifndef RING_PROBE_H
#define RING_PROBE_H

#include <linux/hyperv.h>
#include <linux/wait.h>

#include "protocol.h"

/* How long the host may take for anything. */
#define PATIENCE	(20 * HZ)

/* Bytes behind each packet in a ring. */
#define TRAILER		8

/* Bytes that a packet takes in a ring. */
static inline u32 ring_bytes(u32 payload)
{
	return sizeof(struct vmpacket_descriptor) + ALIGN(payload, 8) + TRAILER;
}

/* Largest payload that a ring of so many pages, its control page included, carries: a full ring must not look
 * empty, so that eight bytes always stay free.
 */
static inline u32 largest_payload(u32 pages)
{
	return (pages - 1) * HV_HYP_PAGE_SIZE - 8 - ring_bytes(0);
}

/* ---- link.c: one opening of the channel ---- */

/* The rings that are asked for. Pages include each ring's control page. */
struct rings {
	u32 in_pages;
	u32 out_pages;
	/* Largest payload of either direction. */
	u32 payload;
};

struct link {
	struct vmbus_channel *channel;
	struct rings rings;
	/* Woken by the host's interrupts. */
	wait_queue_head_t rung;
	/* What went over it; bytes as they are in the rings. */
	u64 packets_out, packets_in;
	u64 bytes_out, bytes_in;
	/* Requests that found the ring full; times that the host waited for room in the other one. */
	u64 full_out, full_in;
	u64 intr_in_full_before;
	/* Room for one payload each. */
	u8 *request;
	u8 *answer;
};

/* Takes one packet; an error ends the reading. */
typedef int (*take_fn)(void *context, const struct vmpacket_descriptor *packet);

int link_open(struct link *link, struct vmbus_channel *channel, struct rings rings);
void link_close(struct link *link);
int link_send(struct link *link, const void *payload, u32 length, u64 id, bool completion);
int link_send_gpa(struct link *link, struct vmbus_packet_mpb_array *ranges, u32 ranges_length,
		  const void *payload, u32 length, u64 id);
int link_take(struct link *link, bool one_only, take_fn take, void *context);
int link_wait(struct link *link, bool packet, u32 room_for);
int link_wait_blocked(struct link *link, u32 room_for);
bool link_blocked(const struct link *link);
bool link_has_room(const struct link *link, u32 payload);

/* ---- packets.c: contents that can be told from each other and checked without being kept ---- */

u64 scramble(u64 number);
u64 next_random(u64 *state);
void fill_random(void *bytes, u32 length, u64 key);
int check_packet(const struct vmpacket_descriptor *packet, u64 id, u16 type, u32 payload);
int check_header(const struct loopback_header *header, u32 operation, u32 status);

/* Request number `id` of a stream of echoes: its size, content and kind follow from seed and number. */
struct echo {
	u64 id;
	u64 key;
	u32 length;
	bool completion;
};
struct echo echo_of(u64 seed, u64 id, u32 largest);
void echo_fill(const struct echo *echo, void *payload);
int echo_check(const struct echo *echo, const struct vmpacket_descriptor *packet);

/* ---- traffic.c, gpa.c, hostile.c, spoil.c: what is done with a link ---- */

int traffic_echo(struct link *link, u64 seed, u64 packets, u32 wraps, u32 burst);
int traffic_fill(struct link *link, u64 seed);
int traffic_sink(struct link *link, u64 seed, u64 packets, u32 wraps);
int traffic_source(struct link *link, u64 seed, u64 packets, u32 wraps);
int traffic_delay(struct link *link, u64 seed);
int gpa_exchange(struct link *link, u64 seed, u32 rounds);

struct hostility {
	u64 posted, refused, spoilt;
};
int hostile_messages(struct vmbus_channel *channel, u64 seed, u64 messages, struct hostility *done);
int hostile_hypercalls(struct hostility *done);
int hostile_teardown(struct link *link, struct hostility *done);
u32 spoil_kinds(void);
int spoil(struct link *link, u64 seed, u32 kind);

#endif
