# cmake --install build/release --prefix DIR: the program in bin/, what it loads in lib/headrace/, the Python package in
# lib/headrace/python/ (put that on PYTHONPATH, or make a wheel of it all: ./dev wheel). Debian's own libraries stay where they are.
set(HEADRACE_LIBRARIES ${ARROW_ROOT}/libarrow.so.2600 ${ARROW_ROOT}/libarrow_compute.so.2600 ${ARROW_ROOT}/libparquet.so.2600
    ${DUCKDB_ROOT}/libduckdb.so)
# ggml loads a CPU variant by name, from beside itself (model/backends.cc).
file(GLOB llama_libraries ${HEADRACE_LLAMA}/lib/*.so)
list(APPEND HEADRACE_LIBRARIES ${llama_libraries})
install(FILES ${HEADRACE_LIBRARIES} DESTINATION lib/headrace PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
        WORLD_READ WORLD_EXECUTE)
install(TARGETS headrace RUNTIME DESTINATION bin)
set(python_modules _native _engine _tune)
install(TARGETS ${python_modules} LIBRARY DESTINATION lib/headrace/python/headrace)
install(DIRECTORY python/headrace DESTINATION lib/headrace/python FILES_MATCHING PATTERN *.py PATTERN *.pyi PATTERN py.typed
        PATTERN __pycache__ EXCLUDE)
set_target_properties(headrace PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/headrace")
set_target_properties(${python_modules} PROPERTIES INSTALL_RPATH "$ORIGIN/../..")
install(FILES LICENSE THIRD_PARTY.md DESTINATION share/doc/headrace)
