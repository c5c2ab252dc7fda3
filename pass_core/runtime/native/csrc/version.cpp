// Which sources and which instruction set a library was made from: the loader refuses any other.

#define PASS_TEXT(x) #x
#define PASS_AS_TEXT(x) PASS_TEXT(x)

extern "C" {

const char* pass_abi_version() { return PASS_AS_TEXT(PASS_SOURCES); }

const char* pass_isa() { return PASS_AS_TEXT(PASS_ISA); }
}
