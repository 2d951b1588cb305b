# Warnings and sanitizers for our own targets; third-party headers come in as SYSTEM.
add_library(ds4_flags INTERFACE)
target_compile_options(ds4_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
  -Wno-missing-field-initializers)  # members have defaults; designated initialisers name the rest
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # TRY is a statement expression behind __extension__, which clang still reports under -Wpedantic.
  target_compile_options(ds4_flags INTERFACE -Wno-gnu-statement-expression)
else()
  # g++ 12 reports both inside std::string and std::vector at -O3, in code that is sound.
  target_compile_options(ds4_flags INTERFACE $<$<CONFIG:Release>:-Wno-restrict -Wno-stringop-overflow>)
endif()
if(DS4_WERROR)
  target_compile_options(ds4_flags INTERFACE -Werror)
endif()
# Results must not depend on what the compiler fuses: no contraction of a*b+c unless written as fma.
target_compile_options(ds4_flags INTERFACE -ffp-contract=off)
if(DS4_SANITIZE)
  target_compile_definitions(ds4_flags INTERFACE DS4_SANITIZED)
  target_compile_options(ds4_flags INTERFACE -fsanitize=${DS4_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(ds4_flags INTERFACE -fsanitize=${DS4_SANITIZE})
endif()
