/* Writes the seeds of fuzz_case_file to a folder: good files in each of HDF5's forms that the
 * reader knows, so that the fuzzer starts behind the first checks.
 *
 *     fuzz_seeds FOLDER */
#include "tests/case_file_fixture.h"

#include <sys/stat.h>

static const struct problem *seed_problem(void)
{
    static struct problem p;
    p = small_problem();
    return &p;
}

static void write_seed(const char *name, enum case_expected_storage storage)
{
    double y[SMALL_Y] = {0};
    struct error error = {0};
    struct case_writer *writer;
    const struct params params = {good_values(), good_values(), good_values()};
    if (case_writer_create(&writer, in_folder(name), seed_problem(), &provenance, storage,
                           &error) != STATUS_OK ||
        case_writer_params(writer, &params, &error) != STATUS_OK ||
        case_writer_input(writer, good_values(), 3, &error) != STATUS_OK ||
        (storage != CASE_EXPECTED_NONE &&
         case_writer_expected(writer, y, 3, &error) != STATUS_OK) ||
        case_writer_commit(writer, &error) != STATUS_OK) {
        fprintf(stderr, "error: %s\n", error.message);
        exit(3);
    }
    case_writer_free(writer);
}

/* The good file with /input and /expected chunked: 0 plain, 1 gzip, 2 shuffle, gzip, fletcher32. */
static void chunked_seed(const char *name, int filters)
{
    const hid_t file = create_good(in_folder(name)), list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, 4, (hsize_t[]){2, 1, 2, 2});
    if (filters == 2)
        H5Pset_shuffle(list);
    if (filters)
        H5Pset_deflate(list, 6);
    if (filters == 2)
        H5Pset_fletcher32(list);
    put_dataset(file, "input", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, 4, shape_x, list, good_values());
    put_dataset(file, "expected", H5T_IEEE_F64LE, H5T_NATIVE_FLOAT, 4, shape_y, list,
                good_values());
    H5Pclose(list);
    H5Fclose(file);
}

static void newest_seed(const char *name)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    const hid_t old = create_good(in_folder("good.h5"));
    const hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    const int64_t stride[2] = {2, 1};
    const float scale = 2;
    put_string(file, "format", "assay-case", false);
    put_int(file, "version", 1);
    put_int(file, "groups", 2);
    put_attribute(file, "stride", H5T_STD_I64LE, H5T_NATIVE_INT64, stride, 2);
    put_attribute(file, "scaling_factor", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, &scale, 0);
    H5Ocopy(old, "input", file, "input", H5P_DEFAULT, H5P_DEFAULT);
    H5Ocopy(old, "params", file, "params", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    H5Fclose(old);
    H5Pclose(access);
}

static void typed_seed(const char *name)
{
    const hid_t file = create_good(in_folder(name)), list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(list, H5D_COMPACT);
    put_dataset(file, "input", H5T_STD_I32BE, H5T_NATIVE_FLOAT, 4, shape_x, list, good_values());
    put_dataset(file, "expected", H5T_STD_U64LE, H5T_NATIVE_FLOAT, 4, shape_y, 0, good_values());
    H5Lmove(file, "params", file, "model", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/model", file, "params", H5P_DEFAULT, H5P_DEFAULT);
    H5Pclose(list);
    H5Fclose(file);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    mkdir(argv[1], 0777);
    snprintf(fixture_folder, sizeof fixture_folder, "%s", argv[1]);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5Fclose(create_good(in_folder("good.h5")));
    write_seed("none.h5", CASE_EXPECTED_NONE);
    write_seed("f32.h5", CASE_EXPECTED_F32);
    write_seed("f64.h5", CASE_EXPECTED_F64);
    chunked_seed("chunked.h5", 0);
    chunked_seed("gzip.h5", 1);
    chunked_seed("filters.h5", 2);
    newest_seed("newest.h5");
    typed_seed("typed.h5");
    return 0;
}
