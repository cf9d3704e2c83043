// SPDX-License-Identifier: GPL-2.0
/*
 * ring_probe: opens busman's loopback device with rings of the sizes that its parameters name, and proves that
 * they are what host and guest use. Everything happens while it loads; loading fails when anything was wrong.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/module.h>
#include <linux/mutex.h>

#include "ring_probe.h"

static uint incoming_pages = 16;
module_param_named(in, incoming_pages, uint, 0444);
MODULE_PARM_DESC(in, "pages of the incoming ring, its control page included");

static uint outgoing_pages = 16;
module_param_named(out, outgoing_pages, uint, 0444);
MODULE_PARM_DESC(out, "pages of the outgoing ring, its control page included");

static ulong packets = 1000;
module_param(packets, ulong, 0444);
MODULE_PARM_DESC(packets, "exchange at least so many packets (mode hostile: messages)");

static uint wraps = 4;
module_param(wraps, uint, 0444);
MODULE_PARM_DESC(wraps, "and go round each ring at least so many times");

static uint payload;
module_param(payload, uint, 0444);
MODULE_PARM_DESC(payload, "largest payload in bytes; 0: as much as rings and device take");

static uint burst = 64;
module_param(burst, uint, 0444);
MODULE_PARM_DESC(burst, "send at most so many requests in a row; 1: one packet at a time");

static ulong seed = 1;
module_param(seed, ulong, 0444);
MODULE_PARM_DESC(seed, "of everything that is random");

static uint cycles = 1000;
module_param(cycles, uint, 0444);
MODULE_PARM_DESC(cycles, "times to open and close (mode cycles)");

static char *mode = "all";
module_param(mode, charp, 0444);
MODULE_PARM_DESC(mode, "all, echo, fill, sink, source, gpa, delay, cycles, refused or hostile");

/* Echoes that show that a channel is in order. */
#define FEW_PACKETS	40
#define GPA_ROUNDS	50

/* The device, while it is there; whoever uses its channel holds the lock. */
static DEFINE_MUTEX(found_lock);
static struct hv_device *device;
static DECLARE_COMPLETION(device_found);

static int probe_probe(struct hv_device *found, const struct hv_vmbus_device_id *id)
{
	mutex_lock(&found_lock);
	device = found;
	mutex_unlock(&found_lock);
	complete(&device_found);
	return 0;
}

static int probe_remove(struct hv_device *gone)
{
	mutex_lock(&found_lock);
	device = NULL;
	mutex_unlock(&found_lock);
	return 0;
}

static const struct hv_vmbus_device_id id_table[] = {
	{ LOOPBACK_GUID },
	{ },
};
MODULE_DEVICE_TABLE(vmbus, id_table);

static struct hv_driver driver = {
	.name = KBUILD_MODNAME,
	.id_table = id_table,
	.probe = probe_probe,
	.remove = probe_remove,
};

/* ---- Modes ---- */

static struct rings wanted_rings(void)
{
	u32 fits = min(largest_payload(incoming_pages), largest_payload(outgoing_pages));

	return (struct rings) {
		.in_pages = incoming_pages,
		.out_pages = outgoing_pages,
		.payload = payload ? payload : min_t(u32, fits, LOOPBACK_MAX_PAYLOAD),
	};
}

static u64 rounds(u64 bytes, u32 pages)
{
	return div_u64(bytes, (pages - 1) * HV_HYP_PAGE_SIZE);
}

static void report(const struct link *link)
{
	pr_info("ok in=%u out=%u payload=%u packets_in=%llu packets_out=%llu bytes_in=%llu bytes_out=%llu wraps_in=%llu wraps_out=%llu full_in=%llu full_out=%llu\n",
		link->rings.in_pages, link->rings.out_pages, link->rings.payload, link->packets_in, link->packets_out,
		link->bytes_in, link->bytes_out, rounds(link->bytes_in, link->rings.in_pages),
		rounds(link->bytes_out, link->rings.out_pages), link->full_in, link->full_out);
}

static int run_all(struct link *link)
{
	int error = traffic_echo(link, seed, packets, wraps, burst);

	if (!error)
		error = traffic_fill(link, seed + 1);
	if (!error)
		error = traffic_source(link, seed + 2, packets, wraps);
	if (!error)
		error = traffic_sink(link, seed + 3, packets, wraps);
	if (!error)
		error = gpa_exchange(link, seed + 4, GPA_ROUNDS);
	if (!error)
		error = traffic_delay(link, seed + 5);
	return error;
}

static int run_echo(struct link *link)
{
	return traffic_echo(link, seed, packets, wraps, burst);
}

static int run_fill(struct link *link)
{
	return traffic_fill(link, seed);
}

static int run_sink(struct link *link)
{
	return traffic_sink(link, seed, packets, wraps);
}

static int run_source(struct link *link)
{
	return traffic_source(link, seed, packets, wraps);
}

static int run_gpa(struct link *link)
{
	return gpa_exchange(link, seed, packets);
}

static int run_delay(struct link *link)
{
	return traffic_delay(link, seed);
}

static int run_few(struct link *link)
{
	return traffic_echo(link, seed, FEW_PACKETS, 0, burst);
}

typedef int (*run_fn)(struct link *link);

/* One opening: something is done with it, and it is closed. */
static int with_link(struct link *link, struct rings rings, run_fn run)
{
	int error = link_open(link, device->channel, rings);

	if (error) {
		pr_err("cannot open in=%u out=%u payload=%u: %d\n", rings.in_pages, rings.out_pages, rings.payload,
		       error);
		return error;
	}
	error = run(link);
	link_close(link);
	return error;
}

static int run_once(run_fn run)
{
	struct link link;
	int error = with_link(&link, wanted_rings(), run);

	if (!error && run == run_all && (!link.full_in || !link.full_out)) {
		pr_err("a ring was never full\n");
		error = -EPROTO;
	}
	if (!error)
		report(&link);
	return error;
}

static int run_cycles(void)
{
	struct link link;
	u32 cycle;

	for (cycle = 0; cycle < cycles; cycle++) {
		int error = with_link(&link, wanted_rings(), run_few);

		seed++;
		if (error)
			return error;
	}
	pr_info("cycled %u\n", cycles);
	report(&link);
	return 0;
}

/* The host must refuse what these rings could never carry; an opening that is possible must work afterwards. */
static int run_refused(void)
{
	struct rings rings = wanted_rings();
	struct link link;
	int error = link_open(&link, device->channel, rings);

	if (!error) {
		link_close(&link);
		pr_err("the host accepted in=%u out=%u payload=%u\n", rings.in_pages, rings.out_pages, rings.payload);
		return -EPROTO;
	}
	pr_info("refused in=%u out=%u payload=%u error=%d\n", rings.in_pages, rings.out_pages, rings.payload, error);
	payload = 0;
	return run_once(run_few);
}

/* Spoils one opening after the other; after each, an honest one must work. */
static int run_spoilt(struct hostility *done)
{
	struct link link;
	u32 kind;
	int error = 0;

	for (kind = 0; kind <= spoil_kinds() && !error; kind++) {
		error = link_open(&link, device->channel, wanted_rings());
		if (error)
			return error;
		error = run_few(&link);
		if (!error)
			error = kind < spoil_kinds() ? spoil(&link, seed, kind) : hostile_teardown(&link, done);
		link_close(&link);
		done->spoilt++;
		if (!error)
			error = with_link(&link, wanted_rings(), run_few);
		if (error)
			pr_err("after kind %u of spoilt rings: %d\n", kind, error);
	}
	return error;
}

static int run_hostile(void)
{
	struct hostility done = {};
	int error = hostile_hypercalls(&done);

	if (!error)
		error = hostile_messages(device->channel, seed, packets, &done);
	if (!error)
		error = run_spoilt(&done);
	if (!error) {
		pr_info("survived posted=%llu refused=%llu spoilt=%llu\n", done.posted, done.refused, done.spoilt);
		packets = FEW_PACKETS;
		error = run_once(run_all);
	}
	return error;
}

static const struct {
	const char *name;
	/* What is done with one opening, or else everything. */
	run_fn run;
	int (*whole)(void);
} modes[] = {
	{ "all", .run = run_all },
	{ "echo", .run = run_echo },
	{ "fill", .run = run_fill },
	{ "sink", .run = run_sink },
	{ "source", .run = run_source },
	{ "gpa", .run = run_gpa },
	{ "delay", .run = run_delay },
	{ "cycles", .whole = run_cycles },
	{ "refused", .whole = run_refused },
	{ "hostile", .whole = run_hostile },
};

static int run_mode(void)
{
	u32 i;

	for (i = 0; i < ARRAY_SIZE(modes); i++)
		if (!strcmp(mode, modes[i].name))
			return modes[i].run ? run_once(modes[i].run) : modes[i].whole();
	pr_err("there is no mode %s\n", mode);
	return -EINVAL;
}

/* ---- Module ---- */

static int run_with_device(void)
{
	int error = -ENODEV;

	if (wait_for_completion_killable_timeout(&device_found, PATIENCE) > 0) {
		mutex_lock(&found_lock);
		if (device)
			error = run_mode();
		mutex_unlock(&found_lock);
	}
	if (error)
		pr_err("failed: %d\n", error);
	return error;
}

static int __init ring_probe_init(void)
{
	int error;

	if (incoming_pages < 2 || outgoing_pages < 2 || !burst || payload > S32_MAX) {
		pr_err("each ring needs at least 2 pages, and a burst one packet\n");
		return -EINVAL;
	}
	error = vmbus_driver_register(&driver);
	if (error)
		return error;
	error = run_with_device();
	if (error)
		vmbus_driver_unregister(&driver);
	return error;
}

static void __exit ring_probe_exit(void)
{
	vmbus_driver_unregister(&driver);
}

module_init(ring_probe_init);
module_exit(ring_probe_exit);

MODULE_DESCRIPTION("Proves the ring sizes that a VMBus guest negotiates");
MODULE_LICENSE("GPL");
