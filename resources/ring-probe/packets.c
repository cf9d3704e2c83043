// SPDX-License-Identifier: GPL-2.0
/*
 * Contents of packets. Everything about request number N follows from the seed and N, so that an answer is
 * checked without keeping the request: sizes, every byte, and whether a completion was asked for.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

#include "ring_probe.h"

/* The finisher of splitmix64: near numbers have results that look unrelated. */
u64 scramble(u64 number)
{
	number += 0x9e3779b97f4a7c15;
	number = (number ^ (number >> 30)) * 0xbf58476d1ce4e5b9;
	number = (number ^ (number >> 27)) * 0x94d049bb133111eb;
	return number ^ (number >> 31);
}

u64 next_random(u64 *state)
{
	*state += 1;
	return scramble(*state);
}

/* One word of contents from the one before: Knuth's MMIX generator. */
static u64 next_word(u64 word)
{
	return word * 6364136223846793005 + 1442695040888963407;
}

void fill_random(void *bytes, u32 length, u64 key)
{
	u32 at;

	for (at = 0; at < length; at += 8) {
		key = next_word(key);
		memcpy(bytes + at, &key, min_t(u32, 8, length - at));
	}
}

static int check_random(const void *bytes, u32 length, u64 key, u64 id)
{
	u32 at;

	for (at = 0; at < length; at += 8) {
		key = next_word(key);
		if (memcmp(bytes + at, &key, min_t(u32, 8, length - at))) {
			pr_err("packet %llu: wrong data near byte %u of %u\n", id, at, length);
			return -EBADMSG;
		}
	}
	return 0;
}

/* Descriptor and size; a payload in a ring is padded to 8 bytes. */
int check_packet(const struct vmpacket_descriptor *packet, u64 id, u16 type, u32 payload)
{
	if (packet->trans_id == id && packet->type == type && hv_pkt_datalen(packet) == ALIGN(payload, 8))
		return 0;
	pr_err("packet %llu of type %u with %u bytes came, expected %llu of type %u with %u\n", packet->trans_id,
	       packet->type, hv_pkt_datalen(packet), id, type, ALIGN(payload, 8));
	return -EBADMSG;
}

int check_header(const struct loopback_header *header, u32 operation, u32 status)
{
	if (le32_to_cpu(header->operation) == operation && le32_to_cpu(header->status) == status)
		return 0;
	pr_err("an answer to operation %u has status %u, expected %u and %u\n", le32_to_cpu(header->operation),
	       le32_to_cpu(header->status), operation, status);
	return -EBADMSG;
}

struct echo echo_of(u64 seed, u64 id, u32 largest)
{
	const u32 smallest = sizeof(struct loopback_header);
	u64 key = scramble(seed ^ scramble(id));

	return (struct echo) {
		.id = id,
		.key = key,
		.length = smallest + (u32)(key >> 32) % (largest - smallest + 1),
		.completion = key & 1,
	};
}

static struct loopback_header echo_header(const struct echo *echo)
{
	return (struct loopback_header) {
		.operation = cpu_to_le32(LOOPBACK_ECHO),
		.argument = cpu_to_le64(echo->key),
		.count = cpu_to_le32(echo->id),
		.length = cpu_to_le32(echo->length - sizeof(struct loopback_header)),
	};
}

void echo_fill(const struct echo *echo, void *payload)
{
	struct loopback_header header = echo_header(echo);

	memcpy(payload, &header, sizeof(header));
	fill_random(payload + sizeof(header), echo->length - sizeof(header), echo->key);
}

int echo_check(const struct echo *echo, const struct vmpacket_descriptor *packet)
{
	struct loopback_header header = echo_header(echo);
	u16 type = echo->completion ? VM_PKT_COMP : VM_PKT_DATA_INBAND;
	const void *payload = hv_pkt_data(packet);
	int error = check_packet(packet, echo->id, type, echo->length);

	if (error)
		return error;
	if (memcmp(payload, &header, sizeof(header))) {
		pr_err("packet %llu: wrong header\n", echo->id);
		return -EBADMSG;
	}
	return check_random(payload + sizeof(header), echo->length - sizeof(header), echo->key, echo->id);
}
