/*
 * A plugin for QEMU that counts which instructions run between two marks.
 *
 * Each translated block gets one counter, raised by one whenever the block runs, and keeps its
 * instruction words. At a mark, a getpgid() with a process number that cannot exist (see
 * guest.py), an even number begins a section and an odd one ends it: what ran in between is
 * written to the file of the argument `out=PATH`, as lines
 *
 *     section NUMBER
 *     WORD COUNT        WORD: 8 hexadecimal digits, COUNT: decimal, each word once
 *     end
 *
 * Telling one class of instructions from another is left to the reader of that file.
 * Counters are not atomic: counts are exact for a guest with one running thread.
 *
 * The declarations below are those of version 1 of QEMU's plugin interface (QEMU 4.2 to 8.2)
 * that are used here, written out since no Debian package carries its header.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };
typedef void (*trans_callback)(qemu_plugin_id_t, struct qemu_plugin_tb *);
typedef void (*syscall_callback)(qemu_plugin_id_t, unsigned int, int64_t, uint64_t, uint64_t, uint64_t,
                                 uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, trans_callback);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, enum qemu_plugin_op, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t, syscall_callback);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);

EXPORT int qemu_plugin_version = 1;

#define MARK 0x4E4E0000u
#define MARKS 0x10000u
#define GETPGID_AARCH64 155

struct block {
    uint64_t runs;   /* raised by the generated code */
    uint64_t before; /* `runs` when the section began */
    size_t length;
    uint32_t words[];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block **blocks;
static size_t block_count, block_room;
static FILE *out;

static void *allocate(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes);
    if (memory == NULL) {
        fputs("instruction counter: no memory left\n", stderr);
        exit(70);
    }
    return memory;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    size_t length = qemu_plugin_tb_n_insns(tb);
    struct block *block = allocate(NULL, sizeof *block + length * sizeof block->words[0]);
    block->runs = block->before = 0;
    block->length = length;
    for (size_t i = 0; i < length; i++) {
        const struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_size(insn);
        block->words[i] = 0;
        memcpy(&block->words[i], qemu_plugin_insn_data(insn), size < 4 ? size : 4);
    }
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &block->runs, 1);
    pthread_mutex_lock(&lock);
    if (block_count == block_room) {
        block_room = block_room ? 2 * block_room : 4096;
        blocks = allocate(blocks, block_room * sizeof *blocks);
    }
    blocks[block_count++] = block;
    pthread_mutex_unlock(&lock);
}

struct tally {
    uint32_t word;
    uint64_t count; /* 0: a free place, as no word is added that did not run */
};

static void begin_section(void)
{
    for (size_t i = 0; i < block_count; i++)
        blocks[i]->before = blocks[i]->runs;
}

static void end_section(unsigned int number)
{
    size_t words = 0, places = 1;
    for (size_t i = 0; i < block_count; i++)
        if (blocks[i]->runs != blocks[i]->before)
            words += blocks[i]->length;
    while (places < 2 * words + 1)
        places *= 2;
    struct tally *table = allocate(NULL, places * sizeof *table);
    memset(table, 0, places * sizeof *table);
    for (size_t i = 0; i < block_count; i++) {
        uint64_t runs = blocks[i]->runs - blocks[i]->before;
        for (size_t k = 0; runs && k < blocks[i]->length; k++) {
            uint32_t word = blocks[i]->words[k];
            size_t place = (word * 2654435769u) & (places - 1);
            while (table[place].count && table[place].word != word)
                place = (place + 1) & (places - 1);
            table[place].word = word;
            table[place].count += runs;
        }
    }
    fprintf(out, "section %u\n", number);
    for (size_t i = 0; i < places; i++)
        if (table[i].count)
            fprintf(out, "%08x %llu\n", table[i].word, (unsigned long long)table[i].count);
    fputs("end\n", out);
    fflush(out);
    free(table);
}

static void called(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2,
                   uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    (void)id, (void)vcpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != GETPGID_AARCH64 || a1 < MARK || a1 >= MARK + MARKS)
        return;
    unsigned int mark = (unsigned int)(a1 - MARK);
    pthread_mutex_lock(&lock);
    if (mark % 2 == 0)
        begin_section();
    else
        end_section(mark / 2);
    pthread_mutex_unlock(&lock);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], "out=", 4) == 0)
            out = fopen(argv[i] + 4, "w");
    if (out == NULL) {
        fputs("instruction counter: cannot open the file of out=PATH\n", stderr);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
