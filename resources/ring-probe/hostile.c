// SPDX-License-Identifier: GPL-2.0
/*
 * What a hostile kernel can say: control messages and hypercalls that no honest client sends. They go past
 * Linux's VMBus driver, which never learns of them and ignores answers that it waits for nobody with.
 *
 * Left out are the messages that rightly end the connection of the whole guest (INITIATE_CONTACT in full,
 * UNLOAD), and channels of other devices: whoever asks for those to be closed gets what it asked for.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/mshyperv.h>

#include "ring_probe.h"

#define MESSAGE_PORT		1
#define MULTI_CLIENT_PORT	4
#define MESSAGE_TYPE		1
#define MAX_MESSAGE		240
/* Nobody's GPADLs: Linux counts up from 0xe1e10. */
#define GPADL_BASE		0x70000000
/* More than any host keeps unfinished. */
#define UNFINISHED		300

/* Input of HvPostMessage (TLFS). */
struct post_message {
	u32 connection_id;
	u32 reserved;
	u32 message_type;
	u32 payload_size;
	u8 payload[MAX_MESSAGE];
} __packed;

struct poster {
	struct post_message *input;
	struct hostility *done;
	u32 port;
};

/* A host that has not yet worked off what came before may refuse for a while; nothing else may go on for long. */
static u16 post(struct poster *poster, const void *message, u32 length)
{
	u16 status;
	u32 tries;

	*poster->input = (struct post_message) {
		.connection_id = poster->port,
		.message_type = MESSAGE_TYPE,
		.payload_size = length,
	};
	memcpy(poster->input->payload, message, length);
	for (tries = 0; tries < 1000; tries++) {
		status = hv_do_hypercall(HVCALL_POST_MESSAGE, poster->input, NULL) & HV_HYPERCALL_RESULT_MASK;
		if (status != HV_STATUS_INSUFFICIENT_BUFFERS && status != HV_STATUS_INSUFFICIENT_MEMORY)
			break;
		msleep(1);
	}
	poster->done->posted++;
	if (status)
		poster->done->refused++;
	return status;
}

static int poster_init(struct poster *poster, struct hostility *done)
{
	/* The input of a hypercall must not cross a page. */
	poster->input = (struct post_message *)get_zeroed_page(GFP_KERNEL);
	poster->done = done;
	poster->port = vmbus_proto_version >= VERSION_WIN10_V5 ? MULTI_CLIENT_PORT : MESSAGE_PORT;
	return poster->input ? 0 : -ENOMEM;
}

static void poster_free(struct poster *poster)
{
	free_page((unsigned long)poster->input);
}

/* ---- Messages ---- */

static bool ends_connection(u32 type)
{
	return type == CHANNELMSG_UNLOAD;
}

/* Every type, known or not, cut off at every length up to its header's end. */
static void post_cut_off(struct poster *poster)
{
	struct vmbus_channel_message_header header = {};
	u32 type, length;

	for (type = 0; type < 64; type++) {
		header.msgtype = type;
		for (length = 0; length <= sizeof(header); length++)
			if (!ends_connection(type))
				post(poster, &header, length);
	}
	header.msgtype = U32_MAX;
	post(poster, &header, sizeof(header));
}

/* A channel id that is this device's, nobody's, or none at all. */
static u32 any_relid(u32 own, u64 *random)
{
	const u32 choices[] = { own, 0, 2046, 2047, 2048, 0x10000, INVALID_RELID };

	return choices[next_random(random) % ARRAY_SIZE(choices)];
}

/* Random contents for every type that guests send, with a channel id where it counts. */
static void post_garbage(struct poster *poster, u32 own, u64 *random)
{
	const u32 types[] = {
		CHANNELMSG_REQUESTOFFERS, CHANNELMSG_OPENCHANNEL, CHANNELMSG_CLOSECHANNEL,
		CHANNELMSG_GPADL_HEADER, CHANNELMSG_GPADL_BODY, CHANNELMSG_GPADL_TEARDOWN,
		CHANNELMSG_RELID_RELEASED, CHANNELMSG_TL_CONNECT_REQUEST, CHANNELMSG_MODIFYCHANNEL,
		CHANNELMSG_18, CHANNELMSG_19, CHANNELMSG_20,
		CHANNELMSG_OFFERCHANNEL, CHANNELMSG_VERSION_RESPONSE, CHANNELMSG_GPADL_CREATED,
	};
	u32 message[MAX_MESSAGE / 4];

	fill_random(message, sizeof(message), next_random(random));
	message[0] = types[next_random(random) % ARRAY_SIZE(types)];
	message[1] = 0;
	message[2] = any_relid(own, random);
	/* Names that can be torn down afterwards. */
	if (message[0] >= CHANNELMSG_GPADL_HEADER && message[0] <= CHANNELMSG_GPADL_TEARDOWN)
		message[3] = GPADL_BASE + message[3] % UNFINISHED;
	/* The offer itself is not given back: it is still needed. */
	if (message[0] == CHANNELMSG_RELID_RELEASED && message[2] == own)
		message[2] = INVALID_RELID;
	post(poster, message, sizeof(message[0]) * (2 + next_random(random) % (MAX_MESSAGE / 4 - 1)));
}

static void post_teardown(struct poster *poster, u32 relid, u32 gpadl)
{
	struct vmbus_channel_gpadl_teardown teardown = {
		.header.msgtype = CHANNELMSG_GPADL_TEARDOWN,
		.child_relid = relid,
		.gpadl = gpadl,
	};

	post(poster, &teardown, sizeof(teardown));
}

/* A header, and no more of it than fits the first message. */
struct gpadl_message {
	struct vmbus_channel_gpadl_header header;
	u32 byte_count;
	u32 byte_offset;
	u64 frames[4];
} __packed;

static void gpadl_begin(struct gpadl_message *message, u32 relid, u32 gpadl, u32 pages)
{
	*message = (struct gpadl_message) {
		.header = {
			.header.msgtype = CHANNELMSG_GPADL_HEADER,
			.child_relid = relid,
			.gpadl = gpadl,
			.range_buflen = 8 + 8 * pages,
			.rangecount = 1,
		},
		.byte_count = pages * HV_HYP_PAGE_SIZE,
	};
}

static void post_teardowns(struct poster *poster, u32 relid)
{
	u32 i;

	for (i = 0; i < UNFINISHED; i++)
		post_teardown(poster, relid, GPADL_BASE + i);
}

/* GPADLs that are begun and never finished. */
static void post_unfinished(struct poster *poster, u32 relid)
{
	struct gpadl_message message;
	u32 i;

	for (i = 0; i < UNFINISHED; i++) {
		gpadl_begin(&message, relid, GPADL_BASE + i, 4096);
		post(poster, &message, sizeof(message));
	}
	post_teardowns(poster, relid);
}

static void post_open(struct poster *poster, u32 relid, u32 gpadl, u32 downstream, u32 vp)
{
	struct vmbus_channel_open_channel open = {
		.header.msgtype = CHANNELMSG_OPENCHANNEL,
		.child_relid = relid,
		.openid = 0x7e57,
		.ringbuffer_gpadlhandle = gpadl,
		.target_vp = vp,
		.downstream_ringbuffer_pageoffset = downstream,
	};

	post(poster, &open, sizeof(open));
}

/*
 * Rings that are none: of frames that do not exist, of GPADLs that do not, split where there is nothing to
 * split, interrupting virtual processors that do not exist.
 */
static void post_bad_rings(struct poster *poster, u32 relid)
{
	const u32 splits[] = { 0, 1, 3, 4, 5, 0x80000000, U32_MAX };
	struct gpadl_message message;
	u32 i;

	gpadl_begin(&message, relid, GPADL_BASE, 4);
	for (i = 0; i < ARRAY_SIZE(message.frames); i++)
		message.frames[i] = i ? 0xfffffffffull << (8 * i) : U64_MAX;
	post(poster, &message, sizeof(message));
	/* The same name twice. */
	post(poster, &message, sizeof(message));
	for (i = 0; i < ARRAY_SIZE(splits); i++) {
		post_open(poster, relid, GPADL_BASE, splits[i], 0);
		post_open(poster, relid, GPADL_BASE + 1, splits[i], 0);
	}
	post_open(poster, relid, GPADL_BASE, 2, 0xfffe);
	post_teardown(poster, relid, GPADL_BASE);
	post_teardown(poster, relid, GPADL_BASE);
}

/* Posts everything above while the channel is closed, and then garbage, `messages` times. */
int hostile_messages(struct vmbus_channel *channel, u64 seed, u64 messages, struct hostility *done)
{
	u32 relid = channel->offermsg.child_relid;
	u64 random = scramble(seed);
	struct poster poster;
	int error = poster_init(&poster, done);

	if (error)
		return error;
	post_cut_off(&poster);
	post_unfinished(&poster, relid);
	post_bad_rings(&poster, relid);
	for (; messages; messages--)
		post_garbage(&poster, relid, &random);
	post_teardowns(&poster, relid);
	poster_free(&poster);
	return 0;
}

/* The rings' memory is taken back while they are in use: the host must hold on until the channel is closed. */
int hostile_teardown(struct link *link, struct hostility *done)
{
	struct poster poster;
	int error = poster_init(&poster, done);

	if (error)
		return error;
	post_teardown(&poster, link->channel->offermsg.child_relid,
		      link->channel->ringbuffer_gpadlhandle.gpadl_handle);
	poster_free(&poster);
	return 0;
}

/* ---- Hypercalls ---- */

static void expect_refused(struct hostility *done, u16 status, const char *what, int *error)
{
	done->posted++;
	if (status) {
		done->refused++;
	} else {
		pr_err("%s was accepted\n", what);
		*error = -EPROTO;
	}
}

/* HvPostMessage and HvSignalEvent with inputs that must be refused. */
int hostile_hypercalls(struct hostility *done)
{
	const u32 ports[] = { 0, 5, 0x1000, 0xffffff, U32_MAX };
	const u32 sizes[] = { MAX_MESSAGE + 1, 4096, 0x80000000, U32_MAX };
	struct poster poster;
	int error = poster_init(&poster, done);
	u32 port, i;

	if (error)
		return error;
	port = poster.port;
	for (i = 0; i < ARRAY_SIZE(ports); i++) {
		poster.port = ports[i];
		done->posted--;
		done->refused--;
		expect_refused(done, post(&poster, "", 0), "a message to no port", &error);
		expect_refused(done, hv_do_fast_hypercall8(HVCALL_SIGNAL_EVENT, ports[i]), "a signal to no port",
			       &error);
	}
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		*poster.input = (struct post_message) {
			.connection_id = port, .message_type = MESSAGE_TYPE, .payload_size = sizes[i] };
		expect_refused(done, hv_do_hypercall(HVCALL_POST_MESSAGE, poster.input, NULL), "a long message",
			       &error);
	}
	expect_refused(done, hv_do_hypercall(HVCALL_POST_MESSAGE, (void *)poster.input + 4, NULL),
		       "a message at an odd address", &error);
	expect_refused(done, hv_do_hypercall(HVCALL_POST_MESSAGE, __va(1ull << 45), NULL),
		       "a message outside of memory", &error);
	expect_refused(done, hv_do_fast_hypercall16(HVCALL_POST_MESSAGE, port, 0), "a message in registers", &error);
	poster_free(&poster);
	return error;
}
