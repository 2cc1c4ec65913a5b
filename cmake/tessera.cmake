# tess_library(NAME SOURCES... DEPENDS libs...): one src/ folder as a static library `tess_NAME`.
# tess_test(NAME SOURCES... DEPENDS libs...): a GoogleTest binary registered with ctest.
add_library(tess_options INTERFACE)
target_compile_options(tess_options INTERFACE -Wall -Wextra -Wshadow -Werror)
target_include_directories(tess_options INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_BINARY_DIR}/src)
if(TESS_ASAN)
  target_compile_options(tess_options INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer)
  target_link_options(tess_options INTERFACE -fsanitize=address,undefined)
  # g++ 12 sees uninitialised reads in tl::expected when sanitizers keep it from inlining.
  target_compile_options(tess_options INTERFACE -Wno-maybe-uninitialized)
endif()

function(tess_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(tess_${name} STATIC ${arg_SOURCES})
  target_link_libraries(tess_${name} PUBLIC tess_options ${arg_DEPENDS})
endfunction()

# A program that is started for each job or command: libstdc++ is bound when it is linked, not at each start.
function(tess_starts_often name)
  if(NOT TESS_ASAN)
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc)
  endif()
endfunction()

function(tess_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE tess_options ${arg_DEPENDS} GTest::gtest GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 120)
endfunction()
