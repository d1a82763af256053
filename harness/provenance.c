#include "harness/provenance.h"

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/git.h"

#ifndef ASSAY_BUILD_COMMIT
#define ASSAY_BUILD_COMMIT "unknown"
#endif
#ifndef ASSAY_BUILD_COMMIT_TIME
#define ASSAY_BUILD_COMMIT_TIME ""
#endif
#ifndef ASSAY_BUILD_DIRTY
#define ASSAY_BUILD_DIRTY ""
#endif

#define SECTION ".assay.build"
#define MARK "assay-build"

/* NOTE: sizes are fixed, so that nothing behind them moves when the commit changes. */
struct build {
    char mark[16];
    char commit[48];
    char commit_time[32];
    char dirty[8];
};

__attribute__((section(SECTION), used)) static const struct build build = {
    MARK, ASSAY_BUILD_COMMIT, ASSAY_BUILD_COMMIT_TIME, ASSAY_BUILD_DIRTY};

/* NOTE: hides the contents from the compiler, which would write them into the code. */
const char *provenance_build_commit(void)
{
    const struct build *b = &build;
    __asm__("" : "+r"(b));
    return b->commit;
}

/* A file mapped for reading. */
struct view {
    const unsigned char *bytes;
    size_t size;
};

static bool view_open(struct view *v, const char *path)
{
    struct stat info;
    *v = (struct view){0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0) {
        void *p = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p != MAP_FAILED)
            *v = (struct view){p, (size_t)info.st_size};
    }
    close(fd);
    return v->bytes != NULL;
}

static void view_close(struct view *v)
{
    if (v->bytes)
        munmap((void *)v->bytes, v->size);
    *v = (struct view){0};
}

/* FNV-1a, 64 bits, eight bytes a step (the tail is padded with zeros and its length is mixed in):
 * not the published byte-wise function, but quick on a binary full of device code. */
static uint64_t hash_bytes(uint64_t hash, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, n - i < 8 ? n - i : 8);
        hash = (hash ^ word) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return (hash ^ n) * 0x100000001b3u;
}

#define HASH_START 0xcbf29ce484222325u

static void print_hash(uint64_t hash, char text[24])
{
    snprintf(text, 24, "%016llx", (unsigned long long)hash);
}

bool provenance_file_hash(const char *path, char hash[24])
{
    struct view v;
    if (!view_open(&v, path))
        return false;
    print_hash(hash_bytes(HASH_START, v.bytes, v.size), hash);
    view_close(&v);
    return true;
}

/* The hash of every section that is loaded, but for what names the build. */
static bool read_elf(const struct view *v, struct provenance *p)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)v->bytes;
    if (v->size < sizeof *header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 ||
        header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_shentsize != sizeof(Elf64_Shdr) ||
        header->e_shoff > v->size || header->e_shstrndx >= header->e_shnum ||
        (v->size - header->e_shoff) / sizeof(Elf64_Shdr) < header->e_shnum)
        return false;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(v->bytes + header->e_shoff);
    const Elf64_Shdr *names = &sections[header->e_shstrndx];
    if (names->sh_offset > v->size || names->sh_size > v->size - names->sh_offset ||
        names->sh_size == 0 || v->bytes[names->sh_offset + names->sh_size - 1] != 0)
        return false;
    uint64_t hash = HASH_START;
    bool found = false;
    for (int i = 0; i < header->e_shnum; i++) {
        const Elf64_Shdr *s = &sections[i];
        if (s->sh_type == SHT_NOBITS || !(s->sh_flags & SHF_ALLOC) ||
            s->sh_name >= names->sh_size || s->sh_offset > v->size ||
            s->sh_size > v->size - s->sh_offset)
            continue;
        const char *name = (const char *)v->bytes + names->sh_offset + s->sh_name;
        if (strcmp(name, ".note.gnu.build-id") == 0)
            continue;
        if (strcmp(name, SECTION) == 0 && s->sh_size >= sizeof build) {
            struct build b;
            memcpy(&b, v->bytes + s->sh_offset, sizeof b);
            found = strncmp(b.mark, MARK, sizeof b.mark) == 0;
            snprintf(p->commit, sizeof p->commit, "%.47s", b.commit);
            snprintf(p->commit_time, sizeof p->commit_time, "%.31s", b.commit_time);
            p->dirty = b.dirty[0] != 0;
            continue;
        }
        hash = hash_bytes(hash, v->bytes + s->sh_offset, s->sh_size);
    }
    print_hash(hash, p->binary);
    return found;
}

enum status provenance_of(const char *path, struct provenance *p, struct error *error)
{
    struct view v;
    *p = (struct provenance){0};
    if (!view_open(&v, path ? path : "/proc/self/exe"))
        return error_set(error, STATUS_BAD_INPUT, "cannot read the binary '%.200s'", path);
    const bool read = read_elf(&v, p);
    view_close(&v);
    return read ? STATUS_OK
                : error_set(error, STATUS_BAD_INPUT,
                            "'%.200s' is not a binary of this program: give a build/assay",
                            path ? path : "/proc/self/exe");
}

void provenance_get(const char *commit, const char *commit_time, struct provenance *p)
{
    struct error ignored;
    const char *named = commit ? commit : getenv("ASSAY_COMMIT");
    const char *time = commit_time ? commit_time : getenv("ASSAY_COMMIT_TIME");
    if (provenance_of(NULL, p, &ignored) != STATUS_OK)
        snprintf(p->commit, sizeof p->commit, "%s", provenance_build_commit());
    if (named && *named && strcmp(named, p->commit) != 0) {
        char digits[GIT_COMMIT_DIGITS + 1];
        snprintf(p->commit, sizeof p->commit, "%.47s", git_resolve(named, digits) ? digits : named);
        p->dirty = false;
        p->commit_time[0] = 0;
        if (!time || !*time)
            git_commit_time(named, p->commit_time);
    }
    if (time && *time)
        snprintf(p->commit_time, sizeof p->commit_time, "%.31s", time);
}
