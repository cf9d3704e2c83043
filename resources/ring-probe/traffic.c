// SPDX-License-Identifier: GPL-2.0
/*
 * Traffic of packets: echoes in random bursts, both rings filled to the brim, one-way streams, late answers.
 *
 * Whoever sends here also reads: a host that cannot answer stops to read, so a sender that only waits for room
 * waits for ever.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitmap.h>
#include <linux/module.h>

#include "ring_probe.h"

static u64 data_bytes(u32 pages)
{
	return (u64)(pages - 1) * HV_HYP_PAGE_SIZE;
}

/* ---- Echoes ---- */

/* A stream of echoes: numbers from 0, answers in order. */
struct echoes {
	struct link *link;
	u64 seed;
	u64 random;
	u64 sent;
	u64 answered;
};

static struct echoes echoes_over(struct link *link, u64 seed)
{
	return (struct echoes) { .link = link, .seed = seed, .random = scramble(seed) };
}

static struct echo echoes_number(const struct echoes *echoes, u64 id)
{
	return echo_of(echoes->seed, id, echoes->link->rings.payload);
}

static int echoes_answer(void *context, const struct vmpacket_descriptor *packet)
{
	struct echoes *echoes = context;
	struct echo echo = echoes_number(echoes, echoes->answered);

	if (echoes->answered == echoes->sent) {
		pr_err("an answer to nothing: packet %llu\n", packet->trans_id);
		return -EBADMSG;
	}
	echoes->answered++;
	return echo_check(&echo, packet);
}

static int echoes_send(struct echoes *echoes)
{
	struct echo echo = echoes_number(echoes, echoes->sent);
	int error;

	echo_fill(&echo, echoes->link->request);
	error = link_send(echoes->link, echoes->link->request, echo.length, echo.id, echo.completion);
	if (!error)
		echoes->sent++;
	return error;
}

/* Reads some of the answers that are there, or all. */
static int echoes_read(struct echoes *echoes)
{
	int taken = link_take(echoes->link, next_random(&echoes->random) & 1, echoes_answer, echoes);

	return min(taken, 0);
}

/* Waits until there is an answer or, if a request is still to be sent, room for it. */
static int echoes_wait(struct echoes *echoes, bool more)
{
	struct echo next = echoes_number(echoes, echoes->sent);

	return link_wait(echoes->link, true, more ? next.length : 0);
}

static bool echoes_pending(const struct echoes *echoes)
{
	return echoes->answered < echoes->sent;
}

static int echoes_finish(struct echoes *echoes)
{
	int error = 0;

	while (!error && echoes_pending(echoes)) {
		error = link_take(echoes->link, false, echoes_answer, echoes);
		if (!error)
			error = echoes_wait(echoes, false);
		error = min(error, 0);
	}
	return error;
}

/* Up to `burst` requests in a row, then one answer or all that are there. */
static int echoes_burst(struct echoes *echoes, u64 burst)
{
	u64 end = echoes->sent + burst;
	int error = 0;

	while (!error && echoes->sent < end)
		error = echoes_send(echoes);
	if (error != -EAGAIN)
		return error ? error : echoes_read(echoes);
	error = echoes_read(echoes);
	return error ? error : echoes_wait(echoes, true);
}

/* At least so many echoes, and so many rounds of each ring. */
int traffic_echo(struct link *link, u64 seed, u64 packets, u32 wraps, u32 burst)
{
	struct echoes echoes = echoes_over(link, seed);
	u64 out = link->bytes_out + wraps * data_bytes(link->rings.out_pages);
	u64 in = link->bytes_in + wraps * data_bytes(link->rings.in_pages);
	int error = 0;

	while (!error && (echoes.sent < packets || link->bytes_out < out || link->bytes_in < in)) {
		error = echoes_burst(&echoes, 1 + next_random(&echoes.random) % burst);
		if (!error && burst == 1)
			error = echoes_finish(&echoes);
	}
	return error ? error : echoes_finish(&echoes);
}

/*
 * Requests without reading until nothing moves: the incoming ring is full of answers and the host waits, so it
 * reads no more and the outgoing ring fills too. Then both are emptied, and whoever waited goes on.
 */
int traffic_fill(struct link *link, u64 seed)
{
	struct echoes echoes = echoes_over(link, seed);
	u64 stuck;
	int error;

	for (;;) {
		/* A host that waits does not read: if there is no room then, there will be none. */
		bool blocked = link_blocked(link);

		error = echoes_send(&echoes);
		if (error == -EAGAIN && blocked)
			break;
		if (error == -EAGAIN)
			error = link_wait_blocked(link, echoes_number(&echoes, echoes.sent).length);
		if (error)
			return error;
	}
	stuck = echoes.sent;
	while (echoes.sent < 2 * stuck) {
		error = echoes_send(&echoes);
		if (error == -EAGAIN)
			error = echoes_read(&echoes);
		if (!error && !link_has_room(link, echoes_number(&echoes, echoes.sent).length))
			error = echoes_wait(&echoes, true);
		if (error)
			return error;
	}
	return echoes_finish(&echoes);
}

/* ---- One way ---- */

/* Waits for the completion of a request, and that nothing else comes. */
struct completion_of {
	u64 id;
	u32 operation;
	bool came;
};

static int completion_take(void *context, const struct vmpacket_descriptor *packet)
{
	struct completion_of *request = context;
	int error = check_packet(packet, request->id, VM_PKT_COMP, sizeof(struct loopback_header));

	request->came = true;
	return error ? error : check_header(hv_pkt_data(packet), request->operation, LOOPBACK_OK);
}

static int send_or_wait(struct link *link, u32 length, u64 id, bool completion)
{
	int error;

	do {
		error = link_send(link, link->request, length, id, completion);
		if (error != -EAGAIN)
			return error;
		error = link_wait(link, false, length);
	} while (!error);
	return error;
}

/* To the host: it drops everything, and answers the last one. */
int traffic_sink(struct link *link, u64 seed, u64 packets, u32 wraps)
{
	struct completion_of last = { .operation = LOOPBACK_SINK };
	u64 out = link->bytes_out + wraps * data_bytes(link->rings.out_pages);
	struct loopback_header *header = (struct loopback_header *)link->request;
	u64 id = 0;
	int error = 0;

	while (!error && !last.came) {
		struct echo size = echo_of(seed, id, link->rings.payload);
		bool is_last = id + 1 >= packets && link->bytes_out >= out;

		*header = (struct loopback_header) {
			.operation = cpu_to_le32(LOOPBACK_SINK),
			.length = cpu_to_le32(size.length - sizeof(*header)),
		};
		fill_random(header + 1, size.length - sizeof(*header), size.key);
		last.id = id;
		error = send_or_wait(link, size.length, id++, is_last);
		while (!error && is_last && !last.came) {
			error = link_wait(link, true, 0);
			if (!error)
				error = min(link_take(link, true, completion_take, &last), 0);
		}
	}
	return error;
}

/* A stream from the host. */
struct source {
	u64 id;
	u64 argument;
	u32 count;
	u32 length;
	u32 came;
	bool complete;
};

/* One packet, or the completion that ends the stream. */
static int source_take(void *context, const struct vmpacket_descriptor *packet)
{
	struct source *source = context;
	const struct loopback_header *header = hv_pkt_data(packet);
	const u8 *data = (const u8 *)(header + 1);
	u32 number = source->came;
	int error;
	u32 i;

	if (number == source->count) {
		source->complete = true;
		error = check_packet(packet, source->id, VM_PKT_COMP, sizeof(*header));
		return error ? error : check_header(header, LOOPBACK_SOURCE, LOOPBACK_OK);
	}
	error = check_packet(packet, source->id, VM_PKT_DATA_INBAND, sizeof(*header) + source->length);
	if (!error)
		error = check_header(header, LOOPBACK_SOURCE, LOOPBACK_OK);
	if (error)
		return error;
	for (i = 0; i < source->length; i++)
		if (data[i] != (u8)(number * 31 + i * 7 + source->argument))
			break;
	if (i < source->length || le64_to_cpu(header->argument) != number ||
	    le32_to_cpu(header->count) != source->count || le32_to_cpu(header->length) != source->length) {
		pr_err("packet %u of %u of a stream is wrong near byte %u\n", number, source->count, i);
		return -EBADMSG;
	}
	source->came++;
	return 0;
}

static int source_run(struct link *link, struct source *source, bool fill)
{
	struct loopback_header *header = (struct loopback_header *)link->request;
	int error;

	*header = (struct loopback_header) {
		.operation = cpu_to_le32(LOOPBACK_SOURCE),
		.argument = cpu_to_le64(source->argument),
		.count = cpu_to_le32(source->count),
		.length = cpu_to_le32(source->length),
	};
	error = send_or_wait(link, sizeof(*header), source->id, true);
	/* A stream that is longer than the ring: the host must come to wait while nothing is read. */
	if (!error && fill)
		error = link_wait_blocked(link, 0);
	while (!error && !source->complete) {
		error = link_wait(link, true, 0);
		if (!error)
			error = min(link_take(link, false, source_take, source), 0);
	}
	return error;
}

/* From the host: streams that are longer than the ring, the first of them read only when the ring is full. */
int traffic_source(struct link *link, u64 seed, u64 packets, u32 wraps)
{
	u64 in = link->bytes_in + wraps * data_bytes(link->rings.in_pages);
	u64 end = link->packets_in + packets;
	u64 random = scramble(~seed);
	bool first = true;
	int error = 0;
	u64 id = 0;

	while (!error && (link->packets_in < end || link->bytes_in < in)) {
		struct echo size = echo_of(seed, id, link->rings.payload);
		u64 fits = div_u64(data_bytes(link->rings.in_pages), ring_bytes(size.length));
		u64 left = link->packets_in < end ? end - link->packets_in : 0;
		struct source source = {
			.id = id++,
			.argument = next_random(&random),
			.count = clamp_t(u64, left, fits + 1, LOOPBACK_MAX_SOURCE),
			.length = size.length - sizeof(struct loopback_header),
		};

		error = source_run(link, &source, first);
		first = false;
	}
	return error;
}

/* ---- Late answers ---- */

/* Which ones have come. */
struct delays {
	DECLARE_BITMAP(came, LOOPBACK_MAX_DELAYED + 1);
	u32 count;
};

static int delays_take(void *context, const struct vmpacket_descriptor *packet)
{
	struct delays *delays = context;
	u64 id = packet->trans_id;
	/* One more than the device keeps is refused at once. */
	u32 status = id < LOOPBACK_MAX_DELAYED ? LOOPBACK_OK : LOOPBACK_BAD;
	int error;

	if (id > LOOPBACK_MAX_DELAYED || test_and_set_bit(id, delays->came)) {
		pr_err("late answer %llu came twice or is nobody's\n", id);
		return -EBADMSG;
	}
	delays->count++;
	error = check_packet(packet, id, VM_PKT_DATA_INBAND, sizeof(struct loopback_header));
	return error ? error : check_header(hv_pkt_data(packet), LOOPBACK_DELAY, status);
}

/* As many late answers as there may be, in whatever order they fall due, and one too many. */
int traffic_delay(struct link *link, u64 seed)
{
	struct loopback_header *header = (struct loopback_header *)link->request;
	struct delays delays = {};
	u64 random = scramble(seed);
	int error = 0;
	u64 id;

	for (id = 0; id <= LOOPBACK_MAX_DELAYED && !error; id++) {
		*header = (struct loopback_header) {
			.operation = cpu_to_le32(LOOPBACK_DELAY),
			/* From one to two seconds: none falls due before all are asked for. */
			.argument = cpu_to_le64(1000000 + next_random(&random) % 1000000),
		};
		error = send_or_wait(link, sizeof(*header), id, false);
	}
	while (!error && delays.count <= LOOPBACK_MAX_DELAYED) {
		error = link_wait(link, true, 0);
		if (!error)
			error = min(link_take(link, false, delays_take, &delays), 0);
	}
	return error;
}
