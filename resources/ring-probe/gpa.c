// SPDX-License-Identifier: GPL-2.0
/*
 * GPA direct: packets that name ranges of guest memory, which the host reads (a sum comes back) or changes in
 * place (every bit inverted). The pages of a range are scattered and start and end anywhere.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>

#include "ring_probe.h"

/* Pages that ranges are made of. */
#define PAGES		64
/* No more ranges than this in a packet. */
#define MAX_RANGES	4
/* Frame of no memory of any guest here. */
#define NO_FRAME	0xfffffffffull

/* A packet's ranges: header, then of each range its length, offset and frames. */
#define DESCRIPTOR_BYTES (sizeof(struct vmbus_packet_mpb_array) + MAX_RANGES * sizeof(struct hv_mpb_array) + PAGES * 8)

struct gpa {
	struct link *link;
	u64 random;
	u64 id;
	u8 *pages[PAGES];
	struct vmbus_packet_mpb_array *packet;
	/* Bytes of the packet's ranges, as they should be in memory. */
	u8 *image;
	u32 packet_length;
	u32 length;
	/* Memory is not as the image says. */
	bool differs;
};

static void gpa_free(struct gpa *gpa)
{
	u32 i;

	for (i = 0; i < PAGES; i++)
		free_page((unsigned long)gpa->pages[i]);
	kfree(gpa->packet);
	kvfree(gpa->image);
}

static int gpa_allocate(struct gpa *gpa)
{
	u32 i;

	gpa->packet = kzalloc(DESCRIPTOR_BYTES, GFP_KERNEL);
	gpa->image = kvzalloc(PAGES * HV_HYP_PAGE_SIZE, GFP_KERNEL);
	for (i = 0; i < PAGES; i++) {
		gpa->pages[i] = (u8 *)__get_free_page(GFP_KERNEL);
		if (!gpa->pages[i])
			return -ENOMEM;
	}
	return gpa->packet && gpa->image ? 0 : -ENOMEM;
}

/* Goes through the bytes of all ranges, a piece of one page at a time. */
typedef void (*piece_fn)(struct gpa *gpa, u8 *bytes, u32 at, u32 length);

static void piece_fill(struct gpa *gpa, u8 *bytes, u32 at, u32 length)
{
	fill_random(bytes, length, next_random(&gpa->random));
	memcpy(gpa->image + at, bytes, length);
}

static void piece_compare(struct gpa *gpa, u8 *bytes, u32 at, u32 length)
{
	if (memcmp(bytes, gpa->image + at, length))
		gpa->differs = true;
}

/* The ranges follow each other at sizes that depend on the one before. */
static struct hv_mpb_array *next_range(struct hv_mpb_array *range)
{
	u32 frames = HVPFN_UP(range->offset + range->len);

	return (void *)range + struct_size(range, pfn_array, frames);
}

static void gpa_for_each(struct gpa *gpa, piece_fn piece)
{
	struct hv_mpb_array *range = &gpa->packet->range;
	u32 i, at = 0;

	for (i = 0; i < gpa->packet->rangecount; i++, range = next_range(range)) {
		u32 done = 0;

		while (done < range->len) {
			u32 position = range->offset + done;
			u32 inside = position % HV_HYP_PAGE_SIZE;
			u32 length = min_t(u32, range->len - done, HV_HYP_PAGE_SIZE - inside);
			u8 *page = __va(range->pfn_array[position / HV_HYP_PAGE_SIZE] << HV_HYP_PAGE_SHIFT);

			piece(gpa, page + inside, at, length);
			at += length;
			done += length;
		}
	}
	gpa->length = at;
}

/* Random ranges over the pages, in random order; each page is used once, so that no byte is inverted twice. */
static void gpa_build(struct gpa *gpa)
{
	struct hv_mpb_array *range = &gpa->packet->range;
	/* The packet must fit the smallest ring. */
	u32 ranges = 1 + next_random(&gpa->random) % MAX_RANGES;
	u32 used = 0;
	u32 i, frame;

	for (i = PAGES - 1; i > 0; i--) {
		u32 other = next_random(&gpa->random) % (i + 1);

		swap(gpa->pages[i], gpa->pages[other]);
	}
	for (i = 0; i < ranges; i++) {
		u32 frames = 1 + next_random(&gpa->random) % (PAGES / MAX_RANGES);
		u32 offset = next_random(&gpa->random) % HV_HYP_PAGE_SIZE;
		/* The last frame is reached by at least one byte. */
		u32 least = (frames - 1) * HV_HYP_PAGE_SIZE + 1;

		least = max(least, offset + 1);
		range->offset = offset;
		range->len = least - offset + next_random(&gpa->random) % (frames * HV_HYP_PAGE_SIZE - least + 1);
		for (frame = 0; frame < frames; frame++)
			range->pfn_array[frame] = virt_to_hvpfn(gpa->pages[used++]);
		range = next_range(range);
	}
	gpa->packet->rangecount = ranges;
	gpa->packet_length = (void *)range - (void *)gpa->packet;
	gpa_for_each(gpa, piece_fill);
}

/* What the answer must say. */
struct gpa_answer {
	u64 id;
	u64 argument;
	u32 operation;
	u32 status;
	bool came;
};

static int gpa_take(void *context, const struct vmpacket_descriptor *packet)
{
	struct gpa_answer *answer = context;
	const struct loopback_header *header = hv_pkt_data(packet);
	int error = check_packet(packet, answer->id, VM_PKT_COMP, sizeof(*header));

	answer->came = true;
	if (!error)
		error = check_header(header, answer->operation, answer->status);
	if (!error && !answer->status && le64_to_cpu(header->argument) != answer->argument) {
		pr_err("packet %llu: %llx came for its memory instead of %llx\n", answer->id,
		       le64_to_cpu(header->argument), answer->argument);
		error = -EBADMSG;
	}
	return error;
}

static int gpa_ask(struct gpa *gpa, struct gpa_answer answer)
{
	struct loopback_header header = { .operation = cpu_to_le32(answer.operation) };
	int error;

	answer.id = gpa->id++;
	error = link_send_gpa(gpa->link, gpa->packet, gpa->packet_length, &header, sizeof(header), answer.id);
	while (!error && !answer.came) {
		error = link_wait(gpa->link, true, 0);
		if (!error)
			error = min(link_take(gpa->link, true, gpa_take, &answer), 0);
	}
	return error;
}

/* FNV-1a. */
static u64 sum(const u8 *bytes, u32 length)
{
	u64 hash = 0xcbf29ce484222325;

	while (length--)
		hash = (hash ^ *bytes++) * 0x100000001b3;
	return hash;
}

/* Has the same ranges read, then inverted. */
static int gpa_round(struct gpa *gpa)
{
	int error;
	u32 i;

	gpa_build(gpa);
	error = gpa_ask(gpa, (struct gpa_answer) {
		.operation = LOOPBACK_GPA_SUM, .argument = sum(gpa->image, gpa->length) });
	if (!error)
		error = gpa_ask(gpa, (struct gpa_answer) {
			.operation = LOOPBACK_GPA_INVERT, .argument = gpa->length });
	for (i = 0; i < gpa->length; i++)
		gpa->image[i] = ~gpa->image[i];
	gpa_for_each(gpa, piece_compare);
	if (!error && gpa->differs) {
		pr_err("the host inverted other bytes than those it was shown\n");
		error = -EBADMSG;
	}
	return error;
}

/* Memory that is not there, and more than a packet may name. */
static int gpa_refusals(struct gpa *gpa)
{
	struct hv_mpb_array *range = &gpa->packet->range;
	int error;

	gpa->packet->rangecount = 1;
	range->offset = 0;
	range->len = HV_HYP_PAGE_SIZE;
	range->pfn_array[0] = NO_FRAME;
	gpa->packet_length = (void *)next_range(range) - (void *)gpa->packet;
	error = gpa_ask(gpa, (struct gpa_answer) {
		.operation = LOOPBACK_GPA_SUM, .status = LOOPBACK_NO_ACCESS });
	if (error)
		return error;
	/* The answer to a packet of another kind. */
	return gpa_ask(gpa, (struct gpa_answer) { .operation = 77, .status = LOOPBACK_UNKNOWN });
}

int gpa_exchange(struct link *link, u64 seed, u32 rounds)
{
	struct gpa gpa = { .link = link, .random = scramble(seed ^ 9) };
	int error = gpa_allocate(&gpa);

	while (!error && rounds--)
		error = gpa_round(&gpa);
	if (!error)
		error = gpa_refusals(&gpa);
	gpa_free(&gpa);
	return error;
}
